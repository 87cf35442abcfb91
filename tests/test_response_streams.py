"""What a real server streams, answers whole, and what the replay of either says."""

from __future__ import annotations

import string
import time
from collections.abc import Iterator
from pathlib import Path

import demo_model
import orjson
import pytest
from support import patience
from support.official_clients import read
from support.response_cases import (
    CALLING,
    CHAT,
    COMPLETIONS,
    GENERATE,
    PLAIN,
    THINKING,
    Case,
    chat,
)
from support.server import Server
from support.streams import differences, kinds, lasting, post_stream, serving

from sglang.srt.tenancy.response_cache.endpoints import sse
from sglang.srt.tenancy.response_cache.endpoints.endpoint import Body, Endpoint
from sglang.srt.tenancy.response_cache.endpoints.registry import endpoints

pytestmark = pytest.mark.server


@pytest.fixture(scope="module")
def plain(tiny_model: Path) -> Iterator[Server]:
    with Server(tiny_model, "--max-total-tokens", "8192") as server:
        yield server


@pytest.fixture(scope="module")
def calling(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Has a model that comes to the end of a list of calls, where another would say a comma."""
    model = tmp_path_factory.mktemp("models") / "calling"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo_model, "SPOKEN", string.ascii_lowercase + "]")
        demo_model.make_model(model)
    with Server(
        model,
        *("--max-total-tokens", "8192", "--tool-call-parser", "pythonic"),
        "--constrained-json-disable-any-whitespace",
    ) as server:
        yield server


@pytest.fixture(scope="module")
def thinking(tiny_model: Path) -> Iterator[Server]:
    """Parses reasoning, and calls as Qwen writes them; what is new, in each event."""
    with Server(
        tiny_model,
        *("--max-total-tokens", "8192", "--incremental-streaming-output"),
        *("--tool-call-parser", "qwen25", "--reasoning-parser", "qwen3"),
    ) as server:
        yield server


def check(server: Server, case: Case, *, incremental: bool) -> None:
    endpoint = endpoints(sglang=True, incremental=incremental)[case.path]
    whole = server_post(server, case)
    assert endpoint.complete(whole)
    asked = endpoint.asked_stream(case.body)
    # By tokens, which are bytes here.
    replayed = list(endpoint.replayed(whole, asked, list))
    streamed = stream_by_tokens(server, case, asked, replayed)
    assert sorted_kinds(case, replayed) == sorted_kinds(case, streamed)
    if len(replayed) == len(streamed) and endpoint.samples(case.body) == 1:
        # Event for event the same.
        found = differences(*(lasting(sse.objects(events)[0]) for events in (replayed, streamed)))
        assert {name.removeprefix("response.") for name in found} <= case.lost
    assembled = endpoint.assembled(streamed, asked)
    assert assembled is not None
    assert endpoint.complete(assembled)
    assert different(whole, assembled) == case.lost
    again = endpoint.assembled(replayed, asked)
    assert again is not None
    assert different(again, assembled) <= case.lost
    check_shown(server, endpoint, case, streamed)


def stream_by_tokens(server: Server, case: Case, asked: Body, replayed: list[bytes]) -> list[bytes]:
    """Stream until no event holds what two should: on a busy machine some do."""
    wanted = sorted_kinds(case, replayed)
    deadline = time.monotonic() + patience.SECONDS
    while True:
        streamed = post_stream(server.http, case.path, asked)
        if sorted_kinds(case, streamed) == wanted or time.monotonic() > deadline:
            return streamed


def sorted_kinds(case: Case, events: list[bytes]) -> list[str]:
    """Return the kinds of events; in no order where a parser tells of logprobs in between."""
    found = kinds(events)
    return sorted(set(found)) if case.body.get("tools") and case.body.get("logprobs") else found


def check_shown(server: Server, endpoint: Endpoint, case: Case, with_usage: list[bytes]) -> None:
    """Who did not ask for usage sees what the server would have sent them."""
    body = {**case.body, "stream": True}
    shown = [endpoint.shown(event, body) for event in with_usage]
    seen = [event for event in shown if event is not None]
    plainly = post_stream(server.http, case.path, body)
    assert set(kinds(seen)) >= set(kinds(plainly))
    assert (seen == with_usage) == (case.path not in (COMPLETIONS, CHAT))


def server_post(server: Server, case: Case) -> bytes:
    whole = server.http.post(case.path, json=case.body)
    assert whole.status_code == 200, whole.text
    return whole.content


def different(one: bytes, other: bytes) -> set[str]:
    return differences(lasting(orjson.loads(one)), lasting(orjson.loads(other)))


@pytest.mark.parametrize("case", PLAIN, ids=str)
def test_streams_and_whole_answers_say_the_same(plain: Server, case: Case) -> None:
    check(plain, case, incremental=False)


@pytest.mark.parametrize("case", THINKING, ids=str)
def test_streams_of_thoughts_and_whole_answers_say_the_same(thinking: Server, case: Case) -> None:
    check(thinking, case, incremental=True)


@pytest.mark.parametrize("case", CALLING, ids=str)
def test_streams_of_calls_and_whole_answers_say_the_same(calling: Server, case: Case) -> None:
    check(calling, case, incremental=False)


def test_chats_that_lose_logprobs_in_a_stream_are_not_kept(plain: Server) -> None:
    """Of the token that ends an answer, for one."""
    case = chat("that ends", regex="[a-z]{5}", logprobs=True)
    endpoint = endpoints(sglang=True)[CHAT]
    whole = orjson.loads(server_post(plain, case))
    assert len(whole["choices"][0]["logprobs"]["content"]) == whole["usage"]["completion_tokens"]
    asked = endpoint.asked_stream(case.body)
    events = post_stream(plain.http, CHAT, asked)
    assert endpoint.assembled(events, {**asked, "logprobs": False}) is not None
    assert endpoint.assembled(events, asked) is None


# ---- what official clients make of a replay


def check_read(server: Server, case: Case) -> None:
    endpoint = endpoints(sglang=True)[case.path]
    whole = server_post(server, case)
    # Not their fields where usage is told anyway.
    openai_own = case.path in (COMPLETIONS, CHAT)
    asked = endpoint.asked_stream(case.body) if openai_own else case.body
    with serving(list(endpoint.replayed(whole, asked, list))) as url:
        replayed = lasting(read(url, case.path, asked))
    # Clients name things otherwise. Upstream's streams leave the request's tools out.
    lost = {name.rpartition(".")[2] for name in case.lost} | {"tools"}
    deadline = time.monotonic() + patience.SECONDS
    while True:
        # By tokens: where an event holds two, upstream parses thoughts otherwise.
        real = lasting(read(server.url, case.path, asked))
        found = {name.rpartition(".")[2] for name in differences(replayed, real)}
        if found <= lost or time.monotonic() > deadline:
            break
    assert found <= lost


def _of_clients(cases: list[Case]) -> list[Case]:
    return [case for case in cases if case.path != GENERATE]


@pytest.mark.parametrize("case", _of_clients(PLAIN), ids=str)
def test_clients_read_a_replay_as_the_stream(plain: Server, case: Case) -> None:
    check_read(plain, case)


@pytest.mark.parametrize("case", _of_clients(THINKING), ids=str)
def test_clients_read_thoughts_of_a_replay(thinking: Server, case: Case) -> None:
    check_read(thinking, case)


@pytest.mark.parametrize("case", _of_clients(CALLING), ids=str)
def test_clients_read_calls_of_a_replay(calling: Server, case: Case) -> None:
    check_read(calling, case)
