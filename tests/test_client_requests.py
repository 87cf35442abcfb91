"""What both clients send, and what they do when it goes wrong, on a server that does as told."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import openai
import pytest
from server_process import free_port
from support.chat_stub import MODEL, Say, Stub, running
from support.client_kinds import KINDS, Driven, driven
from support.patience import until

from sglang.tenant_client import (
    AsyncClient,
    BadArgument,
    BrokenAnswer,
    Client,
    Endpoint,
    NoSession,
    NotReady,
    Retries,
    Timeouts,
    TurnOpen,
)
from sglang.tenant_client.failures import seconds_of

AGAIN = Say(status=429, headers={"Retry-After": "1"})
BUSY = Say(status=503)
ONCE = Retries(attempts=1)


@pytest.fixture
def on() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture(params=KINDS)
def client_of(request: pytest.FixtureRequest, on: ExitStack) -> Callable[..., Driven]:
    def make(url: Any, **how: Any) -> Driven:
        client = driven(request.param, url, **how)
        on.callback(client.close)
        client.create("x")
        return client

    return make


def test_only_what_was_given_is_sent(client_of: Callable[..., Driven], on: ExitStack) -> None:
    stub = on.enter_context(running())
    client = client_of(stub.url, user_id="alice")
    client.ask("x", "hi")
    client.ask("x", "more", temperature=0, max_tokens=3, extra_body={"top_k": 1})
    first, second = stub.asked
    ours = {"model": MODEL, "stream": True, "stream_options": {"include_usage": True}}
    assert first == ours | {"messages": [said("user", "hi")], "user_id": "alice"}
    history = [said("user", "hi"), said("assistant", "yes"), said("user", "more")]
    given = {"temperature": 0, "max_tokens": 3, "top_k": 1, "user_id": "alice"}
    assert second == ours | given | {"messages": history}
    assert second["temperature"] == 0
    assert type(second["temperature"]) is int


def said(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


def test_no_key_of_the_environment_is_sent(
    client_of: Callable[..., Driven], on: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-somebody-elses")
    stub = on.enter_context(running())
    client_of(stub.url).ask("x", "hi")
    client_of(stub.url, api_key="sk-alice").ask("x", "hi")
    assert stub.keys == ["Bearer none", "Bearer sk-alice"]


def test_no_key_is_shown() -> None:
    endpoint = Endpoint("http://a:1/v1/", "sk-alice", headers={"x": "secret"})
    with Client(endpoint, admin_key="adm") as client:
        shown = repr(client.transport.settings)
    assert "sk-alice" not in shown
    assert "adm" not in shown
    assert "secret" not in shown
    assert endpoint.url == "http://a:1"


@pytest.mark.slow
def test_the_servers_wait_is_kept(client_of: Callable[..., Driven], on: ExitStack) -> None:
    stub = on.enter_context(running(AGAIN, Say()))
    started = time.monotonic()
    answer = client_of(stub.url).ask("x", "hi")
    assert time.monotonic() - started >= 1
    assert (answer.text, answer.figures.attempts) == ("yes", 2)
    assert answer.figures.seconds >= 1, "the wait is part of it"


def test_a_wait_that_is_too_long_is_not_kept(
    client_of: Callable[..., Driven], on: ExitStack
) -> None:
    stub = on.enter_context(running(Say(status=429, headers={"Retry-After": "3600"})))
    with pytest.raises(openai.RateLimitError):
        client_of(stub.url).ask("x", "hi")
    assert len(stub.asked) == 1


@pytest.mark.slow
def test_retries_are_bounded(client_of: Callable[..., Driven], on: ExitStack) -> None:
    stub = on.enter_context(running(BUSY))
    client = client_of(stub.url, retries=Retries(attempts=3))
    with pytest.raises(openai.InternalServerError):
        client.ask("x", "hi")
    assert len(stub.asked) == 3
    assert client.state("x").turns == ()


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 413, 500, 502])
def test_what_will_not_pass_is_sent_once(
    status: int, client_of: Callable[..., Driven], on: ExitStack
) -> None:
    stub = on.enter_context(running(Say(status=status)))
    other = on.enter_context(running())
    with pytest.raises(openai.APIStatusError) as error:
        client_of(stub.url, fallbacks=[other.url]).ask("x", "hi")
    assert error.value.status_code == status
    assert (len(stub.asked), len(other.asked)) == (1, 0)


def test_a_connection_that_drops_is_tried_again(
    client_of: Callable[..., Driven], on: ExitStack
) -> None:
    stub = on.enter_context(running(Say(drops=True), Say()))
    answer = client_of(stub.url).ask("x", "hi")
    assert answer.figures.attempts == 2


def test_a_limit_is_not_evaded_by_the_fallback(
    client_of: Callable[..., Driven], on: ExitStack
) -> None:
    stub, other = on.enter_context(running(Say(status=429))), on.enter_context(running())
    with pytest.raises(openai.RateLimitError):
        client_of(stub.url, fallbacks=[other.url], retries=ONCE).ask("x", "hi")
    assert other.asked == []


@pytest.mark.parametrize("down", [True, False])
def test_the_fallback_answers_at_once_and_it_is_said(
    down: bool, client_of: Callable[..., Driven], on: ExitStack
) -> None:
    first = f"http://127.0.0.1:{free_port()}" if down else on.enter_context(running(BUSY)).url
    other = on.enter_context(running())
    client = client_of(first, user_id="alice", fallbacks=[Endpoint(other.url, model="other")])
    answer = client.ask("x", "hi")
    assert (answer.figures.endpoint, answer.figures.fallback) == (other.url, True)
    assert answer.figures.attempts == 1
    (asked,) = other.asked
    assert asked["model"] == "other"
    assert "user_id" not in asked, "another server knows the user by what its Endpoint says"


@pytest.mark.parametrize(
    "broken", [Say(breaks=True), Say(finish=None), Say(finish="abort"), Say((), finish=None)]
)
def test_an_answer_that_breaks_off_leaves_nothing(
    broken: Say, client_of: Callable[..., Driven], on: ExitStack
) -> None:
    stub, other = on.enter_context(running(broken)), on.enter_context(running())
    client = client_of(stub.url, fallbacks=[other.url])
    with pytest.raises(BrokenAnswer):
        client.ask("x", "hi")
    assert client.state("x").turns == ()
    assert (len(stub.asked), len(other.asked)) == (1, 0), "something had been answered"
    stub.answers = [Say()]
    assert client.ask("x", "again").text == "yes"


@pytest.mark.slow
def test_an_answer_that_flows_is_never_cut(client_of: Callable[..., Driven], on: ExitStack) -> None:
    stub = on.enter_context(running(Say(("a",) * 10, pause=0.2), Say(("a", "b"), pause=1.5)))
    client = client_of(stub.url, timeouts=Timeouts(read=0.8))
    assert client.ask("x", "hi").figures.seconds > 1.6
    with pytest.raises(BrokenAnswer, match="broke off"):
        client.ask("x", "silence")
    assert len(client.state("x").turns) == 1


def test_a_server_that_is_slow_is_not_asked_twice(
    client_of: Callable[..., Driven], on: ExitStack
) -> None:
    """It may be at work on the first one."""
    stub = on.enter_context(running(Say(silence=1.0)))
    other = on.enter_context(running())
    client = client_of(stub.url, fallbacks=[other.url], timeouts=Timeouts(read=0.3))
    with pytest.raises(openai.APITimeoutError):
        client.ask("x", "hi")
    assert (len(stub.asked), len(other.asked)) == (1, 0)


def test_who_leaves_early_cancels_the_turn(client_of: Callable[..., Driven], on: ExitStack) -> None:
    stub = on.enter_context(running(Say(("a", "b", "c"))))
    client = client_of(stub.url)
    assert client.pieces("x", "hi", most=1) == ["a"]
    assert client.state("x").turns == ()
    assert client.pieces("x", "hi") == ["a", "b", "c"]
    assert [turn.assistant for turn in client.state("x").turns] == ["abc"]


def test_turns_wait_for_one_another(client_of: Callable[..., Driven], on: ExitStack) -> None:
    stub = on.enter_context(running(Say(("a", "b"), pause=0.02)))
    client = client_of(stub.url)
    texts = [f"text {number}" for number in range(8)]
    client.ask_side_by_side([("x", text) for text in texts])
    assert sorted(turn.user for turn in client.state("x").turns) == texts
    for before, after in itertools.pairwise(asked["messages"] for asked in stub.asked):
        assert after[: len(before)] == before
        assert len(after) == len(before) + 2


def test_forks_go_their_own_ways(client_of: Callable[..., Driven], on: ExitStack) -> None:
    stub = on.enter_context(running())
    client = client_of(stub.url)
    client.ask("x", "hi")
    client.sessions.fork("x", "y")
    client.ask("y", "on y")
    client.ask("x", "on x")
    assert [turn.user for turn in client.state("x").turns] == ["hi", "on x"]
    assert [turn.user for turn in client.state("y").turns] == ["hi", "on y"]


def test_a_session_that_was_deleted_is_gone(
    client_of: Callable[..., Driven], on: ExitStack
) -> None:
    stub = on.enter_context(running())
    client = client_of(stub.url)
    handle = client.sessions.get("x")
    client.sessions.delete("x")
    client.create("x")
    with pytest.raises(NoSession):
        _ = handle.state
    assert client.state("x").turns == ()


def test_dropped_turns_are_said(client_of: Callable[..., Driven], on: ExitStack) -> None:
    stub = on.enter_context(running())
    client = client_of(stub.url)
    client.create("bounded", "be brief", warm_system=False, history_turns=2)
    dropped = [client.ask("bounded", f"text {number}").dropped_turns for number in range(4)]
    assert dropped == [0, 0, 1, 1]
    assert [message["content"] for message in stub.asked[-1]["messages"]] == [
        *("be brief", "text 2", "yes", "text 3")
    ]


def test_a_zero_that_is_left_out_is_told_from_unknown(
    client_of: Callable[..., Driven], on: ExitStack
) -> None:
    stub = on.enter_context(running(Say(), Say(cached=1), Say()))
    client = client_of(stub.url)
    found = [client.ask("x", "hi").figures.cached_tokens for _ in range(3)]
    assert found == [None, 1, 0]


def test_what_a_response_cache_had_is_said(client_of: Callable[..., Driven], on: ExitStack) -> None:
    hit, miss = (Say(headers={"X-Cache": word}) for word in ("HIT", "MISS"))
    stub = on.enter_context(running(hit, miss, Say()))
    client = client_of(stub.url)
    assert [client.ask("x", "hi").figures.replayed for _ in range(3)] == [True, False, False]


def test_where_nothing_is_known_of_a_prefix_nothing_is_claimed(
    client_of: Callable[..., Driven], on: ExitStack
) -> None:
    silent = on.enter_context(running())
    warmth = client_of(silent.url).create("s", "be brief")
    assert warmth is not None
    assert warmth.confirmed is None
    assert "--enable-cache-report" in warmth.reason
    # No /tokenize: how long the prefix is, nobody said.
    talkative = on.enter_context(running(Say(cached=7)))
    (warmth,) = client_of(talkative.url).warm(["be brief"])
    assert (warmth.confirmed, warmth.cached_tokens) == (None, 7)
    down = client_of(f"http://127.0.0.1:{free_port()}", retries=ONCE).create("s", "be brief")
    assert down is not None
    assert (down.confirmed, down.cached_tokens) == (None, None)


def test_a_refused_system_prompt_begins_no_session(
    client_of: Callable[..., Driven], on: ExitStack
) -> None:
    stub = on.enter_context(running(Say(status=400)))
    client = client_of(stub.url)
    with pytest.raises(openai.BadRequestError):
        client.create("s", "be brief")
    assert [state.name for state in client.sessions.list()] == ["x"]


@pytest.mark.slow
def test_a_server_that_does_not_come_is_not_waited_for_longer(
    client_of: Callable[..., Driven],
) -> None:
    started = time.monotonic()
    with pytest.raises(NotReady, match="not reached"):
        client_of(f"http://127.0.0.1:{free_port()}").wait_ready(1.0)
    assert time.monotonic() - started < 10


def test_a_turn_inside_a_turn_is_refused(on: ExitStack) -> None:
    stub = on.enter_context(running())
    client = on.enter_context(Client(stub.url))
    session = client.sessions.create("x")
    with session.stream("hi"), pytest.raises(TurnOpen):
        session.ask("again")
    assert session.ask("now").text == "yes"


async def test_a_task_that_is_cancelled_leaves_the_session_free(on: ExitStack) -> None:
    stub = on.enter_context(running(Say(("a", "b"), pause=5.0), Say()))
    async with AsyncClient(stub.url) as client:
        session = await client.sessions.create("x")
        first = asyncio.create_task(session.ask("hi"))
        await asyncio.to_thread(until, lambda: stub.asked)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        assert (await session.ask("now")).text == "yes"
        assert [turn.user for turn in session.state.turns] == ["now"]


async def test_a_turn_inside_a_turn_of_a_task_is_refused(on: ExitStack) -> None:
    stub: Stub = on.enter_context(running())
    async with AsyncClient(stub.url) as client:
        session = await client.sessions.create("x")
        async with session.stream("hi"):
            with pytest.raises(TurnOpen):
                await session.ask("again")
        assert (await session.ask("now")).text == "yes"


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("2", 2.0),
        ("0.5", 0.5),
        ("-3", 0.0),
        ("inf", None),
        ("nan", None),
        ("soon", None),
        ("Thu, 01 Jan 1970 00:01:00 GMT", 50.0),
    ],
)
def test_both_forms_of_retry_after_are_read(header: str | None, seconds: float | None) -> None:
    assert seconds_of(header, 10.0) == seconds


@pytest.mark.parametrize("url", ["", "here", "ftp://a", "http://"])
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(BadArgument, match=r"^url: "):
        Client(url)
