"""A request that the scheduler stumbles over ends alone, on every rank."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from support import plugin
from support.asks import Asker
from support.server import Server
from support.stumbling import MARK

pytestmark = pytest.mark.server

LONG = {"temperature": 0, "max_new_tokens": 600, "ignore_eos": True}


@pytest.fixture(scope="module", params=[1, 2], ids=["one rank", "two ranks"])
def server(
    request: pytest.FixtureRequest, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    path = plugin.install(tmp_path_factory.mktemp("plugin"), "support.stumbling:stumble")
    env = {"PYTHONPATH": path}
    if request.param > 1:
        env["SGLANG_CPU_OMP_THREADS_BIND"] = "0|1"
    with Server(
        tiny_model,
        *("--enable-tenant-cache", "--enable-hierarchical-cache", "--tp-size", str(request.param)),
        # Grammars are to reach the scheduler.
        *("--tenant-grammar-seconds", "0"),
        env=env,
    ) as server:
        yield server


def ask(server: Server, tokens: list[int], **fields: Any) -> Any:
    body = {"input_ids": tokens, "user_id": "mallory", **fields}
    return Asker(server).post("/generate", body)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("where", [1, 2], ids=["made", "queued"])
def test_it_is_refused_and_the_others_go_on(server: Server, where: int, stream: bool) -> None:
    processes = {process.pid for process in server.running.processes()}
    faulty = [MARK, where, 5]
    with ThreadPoolExecutor() as pool:
        asked = {"user_id": "alice", "sampling_params": LONG}
        alone = ask(server, [1, 2, 3], **asked).json()["output_ids"]
        hers = pool.submit(ask, server, [1, 2, 3], **asked)
        refused = [ask(server, faulty, stream=stream) for _ in range(3)]
        batch = ask(server, [])
        assert hers.result().json()["output_ids"] == alone
    for response in refused:
        assert response.status_code == 400, response.text
        assert "the engine cannot take it in" in response.text
    assert batch.status_code == 400
    assert ask(server, [4, 5, 6], sampling_params={"max_new_tokens": 2}).status_code == 200
    assert {process.pid for process in server.running.processes()} == processes
    assert "KeyError" in server.log or "ZeroDivisionError" in server.log


def test_a_session_forgets_it(server: Server) -> None:
    opened = {"capacity_of_str_len": 1000, "user_id": "mallory"}
    fields = {
        "session_params": {"id": Asker(server).post("/open_session", opened).json()},
        "sampling_params": {"max_new_tokens": 2},
    }
    statuses = [ask(server, tokens, **fields).status_code for tokens in ([MARK, 1], [3, 4], [5, 6])]
    assert statuses == [400, 200, 200]


def test_requests_of_one_batch_ask_for_log_probabilities_or_not(server: Server) -> None:
    """Side by side in a prefill, they ended upstream's scheduler."""
    asked: list[dict[str, Any]] = [
        {"return_logprob": True, "token_ids_logprob": [1, 2]},
        {"return_logprob": True},
        {"return_logprob": True, "top_logprobs_num": 3},
        {},
        {"return_logprob": True, "top_logprobs_num": 2, "token_ids_logprob": [5]},
    ]
    few = {"max_new_tokens": 3}
    with ThreadPoolExecutor(30) as pool:
        replies = list(
            pool.map(
                lambda number: ask(
                    server, [number + 1, 2], sampling_params=few, **asked[number % len(asked)]
                ),
                range(60),
            )
        )
    assert {reply.status_code for reply in replies} == {200}


GRAMMARS: dict[str, dict[str, str]] = {
    "endless reference": {"json_schema": '{"$ref": "#"}'},
    "endless references": {
        "json_schema": '{"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}, '
        '"$ref": "#/$defs/a"}'
    },
    "no JSON": {"json_schema": "{"},
    "no schema": {"json_schema": '{"type": 5}'},
    "deep": {"json_schema": '{"properties": {"a": ' * 200 + "{}" + "}}" * 200},
    "bounds that cross": {"json_schema": '{"type": "integer", "minimum": 9, "maximum": 1}'},
    "repeated": {"regex": "(a{1000}){1000}"},
    "unbalanced": {"regex": "("},
    "nested": {"regex": "(" * 2000 + ")" * 2000},
    "left recursion": {"ebnf": 'root ::= root "a" | "b"'},
    "no root": {"ebnf": 'x ::= "a"'},
    "empty tag": {"structural_tag": "{}"},
}


def test_the_log_shows_no_grammar_that_failed(server: Server) -> None:
    secret = "hunter2hunter2"
    asker = Asker(server)
    for field in ("json_schema", "regex", "ebnf", "structural_tag"):
        grammar = {field: f"( {secret}"}
        assert ask(server, [1, 2], sampling_params=grammar).status_code == 400
        assert ask(server, [1, 2], sampling_params=grammar, stream=True).status_code == 400
        body = {"model": "m", "prompt": "x", "user_id": "mallory", "sampling_params": grammar}
        asker.post("/v1/completions", body)
    body = {"model": "m", "prompt": "x", "regex": f"( {secret}"}
    assert asker.post("/v1/completions", body).status_code == 400
    ask(server, [1, 2], sampling_params={"stop_regex": f"( {secret}", "max_new_tokens": 2})
    assert secret not in server.log
    assert "Hit invalid regex" in server.log


@pytest.mark.parametrize("name", GRAMMARS)
def test_a_grammar_that_allows_nothing_ends_its_request(server: Server, name: str) -> None:
    hers = {"user_id": "alice", "sampling_params": {"temperature": 0, "max_new_tokens": 8}}
    before = ask(server, [7, 8, 9], **hers).json()["output_ids"]
    reply = ask(server, [1, 2], sampling_params={"max_new_tokens": 4, **GRAMMARS[name]})
    assert reply.status_code in (200, 400), reply.text
    assert ask(server, [7, 8, 9], **hers).json()["output_ids"] == before
