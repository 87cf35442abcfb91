"""``--tenant-mode selective``: what enough users hold is everybody's, the rest its owner's.

The tree is checked before every step of the scheduler (support/watch.py).
"""

from __future__ import annotations

import secrets
import string
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.asks import ENDPOINTS, MODEL, Asker, sampling
from support.prompts import fresh_prompt, fresh_user
from support.server import Server
from support.sharing import CHANCE, check_sharing, publish
from support.watch import Watch

pytestmark = pytest.mark.server

ADMIN_KEY = secrets.token_hex(12)
POOL = 2048  # tokens
FLAGS = (
    *("--enable-tenant-cache", "--tenant-mode", "selective", "--enable-cache-report"),
    *("--tenant-detector", "off-trust-all", "--tenant-public-users", "3"),
    *("--tenant-epoch-requests", "512"),
    *("--enable-hierarchical-cache", "--hicache-ratio", "8"),
    *("--max-total-tokens", str(POOL), "--chunked-prefill-size", "128"),
    *("--admin-api-key", ADMIN_KEY),
)
CHECKS = {"SGLANG_ENABLE_STRICT_MEM_CHECK_DURING_BUSY": "1"}


@pytest.fixture(scope="module")
def watch(tmp_path_factory: pytest.TempPathFactory) -> Watch:
    return Watch(tmp_path_factory.mktemp("watch"))


@pytest.fixture(scope="module")
def server(tiny_model: Path, watch: Watch) -> Iterator[Server]:
    with Server(tiny_model, *FLAGS, env=CHECKS | watch.env) as server:
        yield server


@pytest.fixture
def asker(server: Server) -> Asker:
    return Asker(server)


def on_host(reply: dict[str, Any]) -> int:
    return int(reply["meta_info"]["cached_tokens_details"]["host"])


def crowd_out(asker: Asker) -> None:
    """One noisy user fills the whole device."""
    asker.generate(text=fresh_prompt(POOL - 60), user_id=fresh_user("noisy"))


def test_tails_stay_private(asker: Asker) -> None:
    check_sharing(asker)


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_the_third_user_makes_it_public(asker: Asker, endpoint: str) -> None:
    prompt = fresh_prompt()
    assert not any(reply.hit for reply in publish(asker, prompt, endpoint=endpoint))
    assert asker.ask(endpoint, prompt, user_id=fresh_user()).hit


def test_one_user_is_never_enough(asker: Asker) -> None:
    prompt, alice = fresh_prompt(), fresh_user()
    for endpoint in ENDPOINTS:
        asker.ask(endpoint, prompt, user_id=alice)
        asker.ask("generate", prompt, user_id=alice)
    assert asker.ask("generate", prompt, user_id=fresh_user()).cached < CHANCE


def test_what_only_two_hold_is_private(asker: Asker) -> None:
    prompt, tail = fresh_prompt(), fresh_prompt()
    publish(asker, prompt, users=1)
    publish(asker, prompt + tail, users=2)
    seen = asker.ask("generate", prompt + tail, user_id=fresh_user()).cached
    assert 150 <= seen < 150 + CHANCE
    # That was the third to hold the whole.
    assert asker.ask("generate", prompt + tail, user_id=fresh_user()).hit


@pytest.mark.parametrize("scope", ["private", "none"])
def test_a_scope_keeps_content_private(asker: Asker, scope: str) -> None:
    prompt = fresh_prompt()
    for _ in range(4):
        asked = asker.ask("generate", prompt, user_id=fresh_user(), cache_scope=scope)
        assert asked.cached < CHANCE
    publish(asker, prompt, users=2)
    assert asker.ask("generate", prompt, user_id=fresh_user()).cached < CHANCE
    # Three without a scope have asked now.
    assert asker.ask("generate", prompt, user_id=fresh_user(), cache_scope=scope).hit


def test_a_private_turn_below_a_public_prefix(asker: Asker) -> None:
    prompt, tail, alice = fresh_prompt(), fresh_prompt(), fresh_user()
    publish(asker, prompt)
    asker.ask("generate", prompt + tail, user_id=alice, cache_scope="private")
    publish(asker, prompt + tail, users=2)
    assert asker.ask("generate", prompt + tail, user_id=fresh_user()).cached < 150 + CHANCE
    assert asker.ask("generate", prompt + tail, user_id=alice).hit


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_anonymous_requests_read_and_leave_nothing(asker: Asker, endpoint: str) -> None:
    prompt = fresh_prompt()
    for _ in range(4):
        assert not asker.ask(endpoint, prompt).hit
    assert not any(reply.hit for reply in publish(asker, prompt, endpoint=endpoint))
    assert asker.ask(endpoint, prompt).hit


def test_a_batch_of_several_users(asker: Asker) -> None:
    prompt, users = fresh_prompt(), [fresh_user() for _ in range(3)]
    tails = [fresh_prompt() for _ in users]
    whole = [prompt + tail for tail in tails]
    asker.generate(text=whole, user_id=users)
    for text, user in zip(whole, users, strict=True):
        seen = asker.ask("generate", text, user_id=fresh_user()).cached
        assert 150 <= seen < 150 + CHANCE
        assert asker.ask("generate", text, user_id=user).hit


def test_samples_of_one_request_are_one_user(asker: Asker) -> None:
    prompt = fresh_prompt()
    for _ in range(2):
        body = {"user_id": fresh_user(), "sampling_params": {**sampling(), "n": 3}}
        assert len(asker.generate(text=prompt, **body)) == 3
    assert not asker.ask("generate", prompt, user_id=fresh_user()).hit
    assert asker.ask("generate", prompt, user_id=fresh_user()).hit


def test_samples_through_completions(asker: Asker) -> None:
    prompt = fresh_prompt()
    for _ in range(2):
        reply = asker.openai.completions.create(
            model=MODEL, prompt=prompt, max_tokens=2, n=3, extra_body={"user_id": fresh_user()}
        )
        assert len(reply.choices) == 3
    assert not asker.ask("completions", prompt, user_id=fresh_user()).hit
    assert asker.ask("completions", prompt, user_id=fresh_user()).hit


def test_a_salt_is_a_public_of_its_own(asker: Asker) -> None:
    prompt = fresh_prompt()
    for _ in range(3):
        asked = asker.ask("generate", prompt, user_id=fresh_user(), extra_key="salt")
        assert asked.cached < CHANCE
    assert asker.ask("generate", prompt, user_id=fresh_user(), extra_key="salt").hit
    assert asker.ask("generate", prompt, user_id=fresh_user()).cached < CHANCE


def test_sessions(asker: Asker) -> None:
    prompt, tail = fresh_prompt(), fresh_prompt()

    def converse(user: str) -> list[Any]:
        opened = asker.post("/open_session", {"capacity_of_str_len": 10_000, "user_id": user})
        turns: list[Any] = []
        for text in (prompt, tail):
            after = turns[-1]["meta_info"]["id"] if turns else None
            params = {"id": opened.json(), "rid": after}
            turns.append(asker.generate(text=text, user_id=user, session_params=params))
        return turns

    first, second = converse(fresh_user())
    assert second["meta_info"]["cached_tokens"] >= 150
    publish(asker, prompt, users=2)
    reply = asker.ask("generate", prompt + first["text"] + tail, user_id=fresh_user())
    assert 150 <= reply.cached < 150 + CHANCE
    assert converse(fresh_user())[0]["meta_info"]["cached_tokens"] >= 149


def test_the_host_keeps_scopes_apart(asker: Asker) -> None:
    """What is public comes back for anybody, what is private for its owner alone."""
    public, private = fresh_prompt(400), fresh_prompt(400)
    alice, bob = fresh_user("alice"), fresh_user("bob")
    publish(asker, public)
    secret = asker.generate(text=public + private, user_id=alice)
    crowd_out(asker)
    strangers = asker.generate(text=public + private, user_id=bob)
    assert 400 <= strangers["meta_info"]["cached_tokens"] < 400 + CHANCE
    assert on_host(strangers) >= 300
    crowd_out(asker)
    own = asker.generate(text=public + private, user_id=alice)
    assert own["meta_info"]["cached_tokens"] == 799
    assert on_host(own) >= 700
    assert own["output_ids"] == strangers["output_ids"] == secret["output_ids"]


def test_copies_on_the_host_are_merged(asker: Asker, watch: Watch) -> None:
    """A prefix becomes public while the copies of the first two lie on the host."""
    prompt, tails = fresh_prompt(300), [fresh_prompt(150) for _ in range(2)]
    users = [fresh_user() for _ in tails]
    replies = []
    for user, tail in zip(users, tails, strict=True):
        replies.append(asker.generate(text=prompt + tail, user_id=user))
        crowd_out(asker)
    merged = watch.counts.get("merges", 0)
    assert asker.ask("generate", prompt, user_id=fresh_user()).cached < CHANCE
    assert asker.ask("generate", prompt, user_id=fresh_user()).hit
    assert watch.counts["merges"] >= merged + 2
    for user, tail, before in zip(users, tails, replies, strict=True):
        stranger = asker.generate(text=prompt + tail, user_id=fresh_user())
        assert 300 <= stranger["meta_info"]["cached_tokens"] < 300 + CHANCE
        again = asker.generate(text=prompt + tail, user_id=user)
        assert again["meta_info"]["cached_tokens"] == 449
        assert again["output_ids"] == stranger["output_ids"] == before["output_ids"]


def test_beginnings_that_are_alike_by_chance_do_not_fail_the_self_test(server: Server) -> None:
    """With pages of one token and 262 of them, many prompts begin as some public one does."""
    for letter in string.ascii_lowercase + " ":
        publish(Asker(server), letter * 2)
    for _ in range(12):
        answer = Asker(server, ADMIN_KEY).post("/tenant/selftest")
        assert answer.status_code == 200, answer.text


def test_the_log_names_nobody(asker: Asker) -> None:
    prompt, alice = fresh_prompt(), fresh_user()
    publish(asker, prompt)
    asker.ask("generate", prompt, user_id=alice)
    log = asker.server.log
    assert "POST /generate" in log
    assert alice.partition("_")[0] not in log
    assert prompt not in log
