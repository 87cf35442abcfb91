"""The response cache of a real server: who is answered from it, what, in which form."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from support.documents import Runner
from support.operator import Operator
from support.patience import until
from support.prompts import fresh_prompt
from support.redis_server import running
from support.server import Server

pytestmark = pytest.mark.server

ADMIN, ANNE, BILL = "sk-admin", "sk-anne", "sk-bill"
CONFIG = f"""
require_key = false
[users.anne]
keys = ["{ANNE}"]
[users.bill]
keys = ["{BILL}"]
max_running = 1
max_queued = 0
cache_share = 0.5
"""
GREEDY = {"max_new_tokens": 6, "temperature": 0, "ignore_eos": True}


@pytest.fixture(scope="module")
def server(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    config = tmp_path_factory.mktemp("kept") / "tenants.toml"
    config.write_text(CONFIG)
    with Server(
        tiny_model,
        *("--enable-tenant-cache", "--enable-cache-report", "--admin-api-key", ADMIN),
        *("--tenant-config", str(config), "--tenant-response-cache", "1000000"),
        "--enable-metrics",
    ) as server:
        yield server


@pytest.fixture
def operator(server: Server) -> Operator:
    return Operator(server, ADMIN)


def _body_of(path: str, text: str) -> dict[str, Any]:
    """Return a request that is answered alike each time."""
    if path == "/generate":
        return {"text": text, "sampling_params": GREEDY}
    body: dict[str, Any] = {"model": "demo", "temperature": 0}
    if path == "/v1/completions":
        return body | {"prompt": text, "max_tokens": 6}
    if path == "/v1/responses":
        return body | {"input": text, "max_output_tokens": 6}
    return body | {"messages": [{"role": "user", "content": text}], "max_tokens": 6}


PATHS = (
    *("/generate", "/v1/completions", "/v1/chat/completions", "/v1/responses", "/v1/messages"),
)


def ask(
    server: Server, path: str, body: dict[str, Any], key: str | None = ANNE, **headers: str
) -> httpx.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    if key is not None:
        named["Authorization"] = f"Bearer {key}"
    return httpx.post(server.url + path, json=body, headers=named, timeout=120)


def said(answer: httpx.Response) -> str:
    assert answer.status_code == 200, answer.text
    return answer.headers["x-cache"]


def events(answer: httpx.Response) -> list[Any]:
    lines = [line for line in answer.text.splitlines() if line.startswith("data: ")]
    return [json.loads(line[6:]) for line in lines if line != "data: [DONE]"]


@pytest.mark.parametrize("path", PATHS)
def test_the_same_request_is_answered_again_in_either_form(server: Server, path: str) -> None:
    for first_streams in (False, True):
        body = _body_of(path, fresh_prompt(20))
        first = ask(server, path, body | {"stream": first_streams})
        assert said(first) == "MISS"
        assert "age" not in first.headers  # it says "not computed for you"
        whole, streamed = ask(server, path, body), ask(server, path, body | {"stream": True})
        assert said(whole) == said(streamed) == "HIT"
        assert int(whole.headers["age"]) < 60
        assert streamed.headers["content-type"].startswith("text/event-stream")
        if first_streams:
            assert _kinds(streamed) == _kinds(first)
        else:
            assert whole.json() == first.json()
        assert whole.json() == ask(server, path, body).json()


def _kinds(stream: httpx.Response) -> list[Any]:
    """Return the kinds of a stream's events, each as often as it comes after another one."""
    return [kind for kind, _ in groupby(event.get("type") or [*event] for event in events(stream))]


@pytest.mark.parametrize("path", PATHS)
def test_nobody_is_answered_with_what_another_asked(server: Server, path: str) -> None:
    body = _body_of(path, fresh_prompt(20))
    assert said(ask(server, path, body)) == "MISS"
    assert said(ask(server, path, body, BILL)) == "MISS"
    assert said(ask(server, path, body, BILL)) == "HIT"
    assert said(ask(server, path, body, None)) == "BYPASS"  # isolated
    assert said(ask(server, path, body | {"user_id": "anne"})) == "HIT"  # who it is anyway


def test_only_what_is_always_answered_alike_is_kept_unasked(server: Server) -> None:
    path = "/v1/chat/completions"
    body = _body_of(path, fresh_prompt(20))
    del body["temperature"]
    assert [said(ask(server, path, body)) for _ in range(2)] == ["BYPASS", "BYPASS"]
    age = {"Cache_Control": "max-age=100"}
    assert [said(ask(server, path, body, **age)) for _ in range(2)] == ["MISS", "HIT"]
    first = ask(server, path, body, **age).json()
    assert said(ask(server, path, body, Cache_Control="no-cache, max-age=100")) == "MISS"
    assert ask(server, path, body, **age).json()["id"] != first["id"]  # that one is kept now
    assert said(ask(server, path, body, Cache_Control="no-store")) == "BYPASS"


def test_what_is_not_to_be_kept_is_not(server: Server) -> None:
    body = _body_of("/generate", fresh_prompt(20))
    for more in ({"cache_scope": "none"}, {"rid": ["x"]}, {"session_params": {"id": "none"}}):
        assert ask(server, "/generate", body | more).headers.get("x-cache") == "BYPASS"
    assert said(ask(server, "/generate", body)) == "MISS"
    assert said(ask(server, "/generate", body | {"cache_scope": "none"})) == "BYPASS"


@pytest.mark.parametrize("field", ["max_tokens", "logit_bias", "stop", "tools", "made_up"])
def test_each_field_makes_another_request(server: Server, field: str) -> None:
    path = "/v1/chat/completions"
    function = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
    values = {"max_tokens": 5, "logit_bias": {"5": -100}, "stop": ["x"], "tools": [function]}
    body = _body_of(path, fresh_prompt(20))
    assert said(ask(server, path, body)) == "MISS"
    assert said(ask(server, path, body | {field: values.get(field, "value")})) == "MISS"
    assert said(ask(server, path, body)) == "HIT"


def test_errors_are_not_kept(server: Server) -> None:
    body = _body_of("/generate", fresh_prompt(20)) | {"sampling_params": GREEDY | {"top_p": 7}}
    for _ in range(2):
        answer = ask(server, "/generate", body)
        assert answer.status_code == 400
        assert answer.headers["x-cache"] == "MISS"


def test_an_id_is_the_one_that_is_asked_for(server: Server) -> None:
    body = _body_of("/generate", fresh_prompt(20))
    ask(server, "/generate", body)
    answer = ask(server, "/generate", body | {"rid": "of-mine"})
    assert said(answer) == "HIT"
    assert answer.json()["meta_info"]["id"] == "of-mine"


def test_a_bucket_gives_samples_and_is_topped_up(server: Server) -> None:
    path = "/v1/completions"
    body = _body_of(path, fresh_prompt(20)) | {"temperature": 1.0, "cache_bucket": 3}
    asked = [(1, "MISS"), (1, "HIT"), (3, "MISS"), (3, "HIT"), (2, "HIT"), (4, "MISS"), (3, "HIT")]
    texts: set[str] = set()
    for number, expected in asked:
        answer = ask(server, path, body | {"n": number})
        assert (number, said(answer)) == (number, expected)
        choices = answer.json()["choices"]
        assert [choice["index"] for choice in choices] == [*range(number)]
        if expected == "HIT":
            assert {choice["text"] for choice in choices} <= texts
        texts |= {choice["text"] for choice in choices}
    for bad in (0, 65, "3", True, [1]):
        answer = ask(server, path, body | {"cache_bucket": bad})
        assert answer.status_code == 400
        assert answer.json()["error"]["param"] == "cache_bucket"


def test_many_who_ask_at_once_share_a_computation(server: Server, operator: Operator) -> None:
    before = operator.json("GET", "/tenant/response_cache")["process"]
    body = _body_of("/generate", fresh_prompt(20)) | {"sampling_params": GREEDY | {"n": 1}}
    body["sampling_params"] |= {"max_new_tokens": 60}

    def one(number: int) -> httpx.Response:
        return ask(server, "/generate", body | {"stream": number % 2 == 0}, BILL)

    with ThreadPoolExecutor(40) as pool:
        answers = [*pool.map(one, range(40))]
    # Bill may have one running, and none waiting: they counted as one.
    assert [answer.status_code for answer in answers] == [200] * 40
    texts = {answer.json()["text"] for answer in answers[1::2]}
    texts |= {events(answer)[-1]["text"] for answer in answers[::2]}
    assert len(texts) == 1
    now = operator.json("GET", "/tenant/response_cache")["process"]
    assert now["misses"] - before["misses"] == 1
    assert now["hits"] - before["hits"] == 39


def _metric(server: Server, name: str, **labels: str) -> float:
    """Add up a metric of the fork's, over its series with these labels."""
    found = 0.0
    for family in text_string_to_metric_families(server.http.get("/metrics").text):
        for sample in family.samples:
            if sample.name == f"sglang:tenant_{name}" and labels.items() <= sample.labels.items():
                found += sample.value
    return found


def test_who_waits_is_answered_though_the_first_has_left(
    server: Server, operator: Operator
) -> None:
    body = _body_of("/generate", fresh_prompt(20))
    body["sampling_params"] = GREEDY | {"max_new_tokens": 300}
    before = _process(operator)["hits"]
    with ThreadPoolExecutor(1) as pool:
        with httpx.stream(
            "POST",
            server.url + "/generate",
            json=body | {"stream": True},
            headers={"Authorization": f"Bearer {ANNE}"},
            timeout=60,
        ) as first:
            told = first.iter_bytes()  # closed with its last name
            next(told)
            second = pool.submit(ask, server, "/generate", body)
            until(lambda: _process(operator)["hits"] > before, "the second request")
        answer = second.result()
    assert said(answer) == "HIT"
    assert answer.json()["meta_info"]["completion_tokens"] == 300


def _process(operator: Operator) -> dict[str, Any]:
    return operator.json("GET", "/tenant/response_cache")["process"]


def test_what_an_operator_aborts_is_not_kept(server: Server, operator: Operator) -> None:
    """Upstream's /v1/messages says of it that it is complete."""
    body = _body_of("/v1/messages", fresh_prompt(20)) | {"max_tokens": 1000}
    with ThreadPoolExecutor(1) as pool:
        cut_off = pool.submit(ask, server, "/v1/messages", body)
        until(
            lambda: operator.json("GET", "/tenant/stats")["process"]["engine_requests"] == 1,
            "it runs",
        )
        operator.ask("POST", "/abort_request", {"abort_all": True}).raise_for_status()
        cut_off.result()
    assert ask(server, "/v1/messages", body | {"max_tokens": 4}).status_code == 200
    before = _process(operator)["hits"]
    body["stream"] = True
    with httpx.stream(
        "POST",
        server.url + "/v1/messages",
        json=body,
        headers={"Authorization": f"Bearer {ANNE}"},
    ) as again:
        assert again.headers["x-cache"] == "MISS"
    assert _process(operator)["hits"] == before


def test_a_share_bounds_what_is_kept_of_a_user(operator: Operator) -> None:
    rooms = [
        operator.json("GET", f"/tenant/response_cache?user={user}")["store"]["room"]
        for user in ("anne", "bill")
    ]
    assert rooms == [250_000, 500_000]


def test_what_nobody_waits_for_any_more_ends(server: Server, operator: Operator) -> None:
    body = _body_of("/generate", fresh_prompt(20)) | {"stream": True}
    body["sampling_params"] = GREEDY | {"max_new_tokens": 1500}
    headers = {"Authorization": f"Bearer {ANNE}"}
    with httpx.stream("POST", server.url + "/generate", json=body, headers=headers) as first:
        next(first.iter_bytes())
    until(lambda: _process(operator)["computing"] == 0, "the computation to end")
    until(
        lambda: operator.json("GET", "/tenant/stats")["process"]["engine_requests"] == 0,
        "the engine to end",
    )
    body["sampling_params"]["max_new_tokens"] = 1500
    assert said(ask(server, "/generate", body | {"stream": False})) == "MISS"


def test_a_stored_response_is_given_as_long_as_it_can_be_gone_on_from(
    server: Server, operator: Operator
) -> None:
    body = _body_of("/v1/responses", fresh_prompt(20))
    first = ask(server, "/v1/responses", body)
    again = ask(server, "/v1/responses", body)
    assert said(again) == "HIT"
    more = body | {"previous_response_id": again.json()["id"], "input": "go on"}
    assert said(ask(server, "/v1/responses", more)) == "BYPASS"
    assert first.json()["id"] == again.json()["id"]


def test_a_user_is_erased_and_all_is_cleared(server: Server, operator: Operator) -> None:
    body = _body_of("/generate", fresh_prompt(20))
    for key in (ANNE, BILL):
        ask(server, "/generate", body, key)
        assert said(ask(server, "/generate", body, key)) == "HIT"
    of_bill = operator.json("GET", "/tenant/response_cache?user=bill")["store"]
    assert of_bill["entries"] >= 1
    operator.json("DELETE", "/tenant/users/bill/cache")
    assert operator.json("GET", "/tenant/response_cache?user=bill")["store"]["entries"] == 0
    assert said(ask(server, "/generate", body, BILL)) == "MISS"
    assert said(ask(server, "/generate", body)) == "HIT"
    assert operator.json("DELETE", "/tenant/response_cache?user=anne")["dropped"] >= 1
    assert said(ask(server, "/generate", body)) == "MISS"
    assert said(ask(server, "/generate", body, BILL)) == "HIT"
    operator.json("DELETE", "/tenant/response_cache")
    assert operator.json("GET", "/tenant/response_cache")["store"]["entries"] == 0
    assert said(ask(server, "/generate", body, BILL)) == "MISS"


def test_other_weights_answer_for_themselves(
    server: Server, operator: Operator, tiny_model: Path
) -> None:
    body = _body_of("/generate", fresh_prompt(20))
    ask(server, "/generate", body)
    assert said(ask(server, "/generate", body)) == "HIT"
    update = {"model_path": str(tiny_model), "flush_cache": False}
    assert operator.json("POST", "/update_weights_from_disk", update)["success"]
    assert said(ask(server, "/generate", body)) == "MISS"
    assert said(ask(server, "/generate", body)) == "HIT"
    version = {"new_version": "two", "abort_all_requests": False}
    assert operator.json("POST", "/update_weight_version", version)["success"]
    assert said(ask(server, "/generate", body)) == "MISS"


def test_collections_leave_out_what_start_up_made(server: Server) -> None:
    """Else one user's requests bring about pauses of 0.4 s for all, now and then."""
    assert "Freezing GC in Tokenizer Manager process" in server.log


def test_what_is_kept_and_given_shows_in_metrics(server: Server) -> None:
    name = "response_cache_requests_total"
    before = _metric(server, name, result="hits")
    body = _body_of("/generate", fresh_prompt(20))
    for _ in range(3):
        ask(server, "/generate", body)
    until(lambda: _metric(server, name, result="hits") >= before + 2, "hits")
    assert _metric(server, "response_cache_bytes") > 0
    assert _metric(server, "response_cache_saved_seconds_total") > 0


@pytest.fixture(scope="module", params=["memory", "file", "redis"])
def shared(
    request: pytest.FixtureRequest,
    tiny_model: Path,
    tmp_path_factory: pytest.TempPathFactory,
    debian_tool: Callable[[str], Path],
) -> Iterator[tuple[str, Server]]:
    """Start a server of two HTTP processes, and say where it keeps answers."""
    folder = tmp_path_factory.mktemp("shared")
    (folder / "tenants.toml").write_text(CONFIG)
    flags = ["--tenant-response-cache", "1000000"]
    with contextlib.ExitStack() as until_end:
        if request.param == "file":
            flags += ["--tenant-response-cache-file", str(folder / "kept.sqlite")]
        elif request.param == "redis":
            redis = until_end.enter_context(running(debian_tool("redis-server"), folder))
            flags += ["--tenant-response-cache-redis", redis.url]
        server = Server(
            tiny_model,
            *("--enable-tenant-cache", "--admin-api-key", ADMIN, "--tokenizer-worker-num", "2"),
            *("--tenant-config", str(folder / "tenants.toml"), *flags),
            env={"SGLANG_TENANT_PROCESS_KEY": "ab" * 32},
        )
        yield request.param, until_end.enter_context(server)


def test_a_clear_reaches_each_http_process(shared: tuple[str, Server]) -> None:
    place, server = shared
    operator = Operator(server, ADMIN)
    body = _body_of("/generate", fresh_prompt(20))

    def looks() -> set[str]:
        answers = [ask(server, "/generate", body, Connection="close") for _ in range(8)]
        return {said(answer) for answer in answers}

    def held() -> list[int]:
        """Ask the processes, by chance, what they keep of her."""
        path = "/tenant/response_cache?user=anne"
        return [operator.json("GET", path)["store"]["entries"] for _ in range(8)]

    until(lambda: looks() == {"HIT"}, "each process has it")
    operator.json("DELETE", "/tenant/response_cache?user=anne")
    # The notice comes by way of the schedulers; what was computed since is new.
    if place == "memory":
        until(lambda: held() == [0] * 8, "no process has it")
    until(lambda: "MISS" in looks(), "it is computed anew")
    until(lambda: looks() == {"HIT"}, "each process has it again")
    operator.json("DELETE", "/tenant/users/anne/cache")
    if place == "memory":
        until(lambda: held() == [0] * 8, "no process has it")
    until(lambda: "MISS" in looks(), "it is computed anew")


def test_the_guide_s_example_runs(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("URL", server.url)
    monkeypatch.setenv("KEY", ANNE)
    guide = Path(__file__).parent.parent / "docs" / "response-cache.md"
    assert Runner(tmp_path, {}, {}).run(guide)["python"] == 1
