"""The client on real servers, and what its document says."""

from __future__ import annotations

import secrets
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import openai
import pytest
from server_process import free_port
from support.client_kinds import KINDS, Driven, driven
from support.documents import Runner
from support.operator import Operator, fresh_admin_key
from support.prompts import fresh_prompt, fresh_user
from support.server import Server

from sglang.tenant_client import BadArgument, Endpoint, Options

pytestmark = pytest.mark.server

ROOT = Path(__file__).parent.parent
ADMIN_KEY = fresh_admin_key()
POOL = 16_384  # tokens; nothing is evicted
SHORT: Options = {"temperature": 0, "max_tokens": 4, "extra_body": {"ignore_eos": True}}
COMMAND = [sys.executable, str(ROOT / "python" / "sglang_tenant.py")]


@pytest.fixture(scope="module")
def server(tiny_model: Path) -> Iterator[Server]:
    with Server(
        tiny_model,
        *("--enable-tenant-cache", "--enable-cache-report", "--tenant-detector", "none"),
        *("--admin-api-key", ADMIN_KEY, "--max-total-tokens", str(POOL)),
        *("--tenant-anonymous", "reject", "--served-model-name", "demo"),
    ) as server:
        yield server


@pytest.fixture(params=KINDS)
def client_of(request: pytest.FixtureRequest, server: Server) -> Iterator[Callable[..., Driven]]:
    with ExitStack() as stack:

        def make(**how: Any) -> Driven:
            how.setdefault("user_id", fresh_user())
            client = driven(request.param, how.pop("url", server.url), **how)
            stack.callback(client.close)
            return client

        yield make


def test_a_system_prompt_is_warm_before_it_is_used(client_of: Callable[..., Driven]) -> None:
    client, system = client_of(), fresh_prompt(200)
    warmth = client.create("x", system)
    assert warmth is not None
    assert warmth.confirmed
    # <|system|>, the prompt, <|end|>, <|user|>: what all that begin with it have in common.
    assert warmth.prefix_tokens == warmth.cached_tokens == 203
    assert client.ask("x", "hi", **SHORT).figures.cached_tokens == 203


def test_each_turn_finds_all_turns_before_it(client_of: Callable[..., Driven]) -> None:
    client = client_of()
    client.create("x")
    before = 0
    for text in ("hello there", "what else", "and then"):
        figures = client.ask("x", text, **SHORT).figures
        assert figures.prompt_tokens is not None
        assert figures.completion_tokens == 4
        if before:
            assert figures.cached_tokens == before
            assert figures.hit_share == before / figures.prompt_tokens
        else:
            assert figures.hit_share is None, "nothing was found, or the server does not report"
        assert figures.first_token is not None
        assert 0 < figures.first_token <= figures.seconds
        # Of an answer's last token nothing was computed.
        before = figures.prompt_tokens + 3
    assert not figures.fallback


def test_a_fork_shares_all_that_was_said(client_of: Callable[..., Driven], server: Server) -> None:
    client = client_of()
    client.create("x", fresh_prompt(150))
    said = client.ask("x", "hello there", **SHORT).figures
    assert said.prompt_tokens is not None
    client.sessions.fork("x", "y")
    before = held(server)
    forked = client.ask("y", "what else", **SHORT).figures
    assert forked.cached_tokens == said.prompt_tokens + 3
    assert forked.prompt_tokens is not None
    # The server holds what the fork adds, and no second copy of what it began with.
    assert held(server) - before == forked.prompt_tokens + 3 - forked.cached_tokens
    last = client.ask("x", "and then", **SHORT).figures
    assert (last.cached_tokens or 0) >= said.prompt_tokens + 3
    assert client.state("y").forked_from == "x"


def held(server: Server) -> int:
    """Tokens in the cache of the device."""
    (replica,) = Operator(server, ADMIN_KEY).json("GET", "/tenant/stats")["replicas"]
    return int(replica["device"]["evictable"])


def test_another_users_prompt_is_not_warm(client_of: Callable[..., Driven]) -> None:
    system = fresh_prompt(200)
    client_of().create("x", system)
    other = client_of()
    other.create("x", system, warm_system=False)
    assert (other.ask("x", "hi", **SHORT).figures.cached_tokens or 0) == 0


def test_prefixes_are_warmed_side_by_side(client_of: Callable[..., Driven]) -> None:
    client = client_of()
    found = client.warm([fresh_prompt(100 + number) for number in range(9)])
    assert [warmth.confirmed for warmth in found] == [True] * 9
    assert [warmth.cached_tokens for warmth in found] == [103 + number for number in range(9)]


def test_streams_bring_the_answer_in_pieces(client_of: Callable[..., Driven]) -> None:
    client = client_of()
    client.create("x", options=SHORT)
    pieces = client.pieces("x", "hello", max_tokens=200)
    assert len(pieces) > 1
    assert "".join(pieces) == client.state("x").turns[-1].assistant


def test_greedy_is_greedy(client_of: Callable[..., Driven]) -> None:
    client = client_of()
    answers = set()
    for name in ("x", "y"):
        client.create(name)
        answers.add(client.ask(name, "hello there", **{**SHORT, "max_tokens": 40}).text)
    assert len(answers) == 1


def test_sessions_go_on_after_a_restart(client_of: Callable[..., Driven], tmp_path: Path) -> None:
    user = fresh_user()
    first = client_of(user_id=user)
    first.create("x", fresh_prompt(80), options=SHORT)
    said = first.ask("x", "hello").figures
    first.sessions.save(tmp_path / "sessions.json")
    second = client_of(user_id=user)
    assert second.sessions.load(tmp_path / "sessions.json") == ["x"]
    assert second.ask("x", "more").figures.cached_tokens == (said.prompt_tokens or 0) + 3


def test_what_room_there_is_is_told_to_operators(client_of: Callable[..., Driven]) -> None:
    assert client_of().wait_ready(60).ok
    room = client_of(admin_key=ADMIN_KEY).capacity()
    assert room.tokens == POOL
    assert (room.running, room.waiting) == (0, 0)
    assert room.free_share is not None
    assert 0 < room.free_share <= 1
    unknown = client_of().capacity()
    assert (unknown.tokens, unknown.free_share) == (None, None)
    assert unknown.context == room.context == 16_384
    assert "admin key" in unknown.reason


def test_the_next_server_answers_for_one_that_is_down(
    client_of: Callable[..., Driven], server: Server
) -> None:
    down = f"http://127.0.0.1:{free_port()}"
    client = client_of(url=down, fallbacks=[Endpoint(server.url, user_id=fresh_user())])
    client.create("x")
    figures = client.ask("x", "hello", **SHORT).figures
    assert (figures.endpoint, figures.fallback) == (server.url, True)


def test_what_the_server_refuses_changes_nothing(client_of: Callable[..., Driven]) -> None:
    client = client_of()
    client.create("x")
    with pytest.raises(openai.BadRequestError, match="temperature"):
        client.ask("x", "hello", temperature=-1)
    assert client.state("x").turns == ()
    with pytest.raises(BadArgument, match="no option"):
        client.ask("x", "hello", temprature=0)
    nobody = client_of(user_id=None)
    nobody.create("x")
    with pytest.raises(openai.AuthenticationError):
        nobody.ask("x", "hello")


@pytest.fixture(scope="module")
def guarded(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server whose users hold keys, that reports no cached tokens and keeps answers."""
    config = tmp_path_factory.mktemp("config") / "tenants.toml"
    config.write_text(
        '[users.alice]\nkeys = ["sk-alice"]\n[users.bob]\nkeys = ["sk-bob"]\n'
        '[users.carol]\nkeys = ["sk-carol"]\nmax_running = 1\nmax_queued = 0\n'
    )
    with Server(
        tiny_model,
        *("--enable-tenant-cache", "--tenant-config", str(config), "--page-size", "16"),
        *("--admin-api-key", ADMIN_KEY, "--max-total-tokens", str(POOL)),
        *("--tenant-response-cache", "1000000"),
    ) as server:
        yield server


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_answered_before_is_said_to_be(kind: str, guarded: Server) -> None:
    client, text = driven(kind, guarded.url, api_key="sk-bob"), fresh_prompt(30)
    for name in ("x", "y"):
        client.create(name, options=SHORT)
    first, again = client.ask("x", text), client.ask("y", text)
    client.close()
    assert (first.figures.replayed, again.figures.replayed) == (False, True)
    assert again.text == first.text


@pytest.mark.parametrize("kind", KINDS)
def test_a_server_that_does_not_report_is_taken_at_its_word(kind: str, guarded: Server) -> None:
    client = driven(kind, guarded.url, api_key="sk-alice")
    warmth = client.create("x", fresh_prompt(200))
    assert warmth is not None
    assert (warmth.confirmed, warmth.cached_tokens, warmth.prefix_tokens) == (None, None, 203)
    figures = client.ask("x", "hello", **SHORT).figures
    assert (figures.cached_tokens, figures.hit_share) == (None, None)
    assert client.wait_ready(60).ok
    assert client.capacity().tokens is None
    client.close()
    stranger = driven(kind, guarded.url, api_key="sk-wrong")
    stranger.create("x")
    with pytest.raises(openai.AuthenticationError):
        stranger.ask("x", "hello")
    assert stranger.wait_ready(60).ok, "health needs no key"
    stranger.close()


@pytest.mark.parametrize("kind", KINDS)
def test_who_is_over_their_limit_is_served_a_little_later(kind: str, guarded: Server) -> None:
    """One answer at a time, and none may wait: the server says 429, and when to come back."""
    client = driven(kind, guarded.url, api_key="sk-carol")
    names = ["x", "y", "z"]
    for name in names:
        client.create(name, options={**SHORT, "max_tokens": 60})
    answers = client.ask_side_by_side([(name, fresh_prompt(40)) for name in names])
    client.close()
    assert [answer.figures.completion_tokens for answer in answers] == [60] * 3
    assert sorted(answer.figures.attempts for answer in answers)[0] == 1
    assert any(answer.figures.attempts > 1 for answer in answers)


def test_the_document_does_what_it_says(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    user = f"user-{secrets.token_hex(4)}"
    env = {"SGLANG_TENANT_URL": server.url, "SGLANG_TENANT_ADMIN_KEY": ADMIN_KEY}
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    runner = Runner(tmp_path, {"http://127.0.0.1:30000": server.url, "alice": user}, env)
    ran = runner.run(ROOT / "docs" / "client.md")
    assert ran["python"] >= 4
    assert ran["bash"] >= 2
    assert (tmp_path / "prefixes.png").read_bytes().startswith(b"\x89PNG")
