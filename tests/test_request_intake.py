"""What requests may hold: every case that once ended a server, was a 500, or passed a limit.

Each is sent by a user with an ordinary key. The answer names the field, another user's answer is as
before, and no process of the server is another one.
"""

from __future__ import annotations

import json
import re
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from support.grammars import HONEST, HOSTILE, INTEGERS, SCHEMA
from support.server import Server

pytestmark = pytest.mark.server

ALICE, MALLORY, LIMITED, ADMIN = "sk-alice", "sk-mallory", "sk-limited", "sk-admin"
RUNNING, PER_MINUTE, CONNECTIONS = 2, 2_000, 40
CONTEXT = 400_000  # tokens: more than the pool holds, so that long prompts are tokenized
CONFIG = f"""
[users.alice]
keys = ["{ALICE}"]
[users.mallory]
keys = ["{MALLORY}"]
[users.limited]
keys = ["{LIMITED}"]
max_running = {RUNNING}
max_queued = 0
[users.metered]
keys = ["sk-metered"]
tokens_per_minute = {PER_MINUTE}
"""


@pytest.fixture(scope="module")
def server(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    config = tmp_path_factory.mktemp("config") / "tenants.toml"
    config.write_text(CONFIG)
    with Server(
        tiny_model,
        *("--enable-tenant-cache", "--enable-hierarchical-cache", "--enable-cache-report"),
        *("--tenant-config", str(config), "--admin-api-key", ADMIN, "--enable-metrics"),
        *("--context-length", str(CONTEXT), "--tenant-max-connections", str(CONNECTIONS)),
        # Whose model says spaces for as long as it may.
        *("--tenant-body-timeout", "3", "--constrained-json-disable-any-whitespace"),
        env={"SGLANG_ALLOW_OVERWRITE_LONGER_CONTEXT_LEN": "1"},
    ) as server:
        yield server


class User:
    """Somebody who has a key."""

    def __init__(self, server: Server, key: str):
        self.server = server
        self.http = httpx.Client(
            base_url=server.url, timeout=60.0, headers={"Authorization": f"Bearer {key}"}
        )

    def post(self, path: str, body: Any) -> httpx.Response:
        headers = {"Content-Type": "application/json"}
        return self.http.post(path, content=json.dumps(body), headers=headers)


@pytest.fixture
def alice(server: Server) -> User:
    return User(server, ALICE)


@pytest.fixture
def mallory(server: Server) -> User:
    return User(server, MALLORY)


GREEDY = {"temperature": 0, "max_new_tokens": 8}


def answer(user: User) -> str:
    body = {"text": "The quick brown fox", "sampling_params": GREEDY}
    response = user.post("/generate", body)
    assert response.status_code == 200, response.text
    return str(response.json()["text"])


@pytest.fixture(scope="module")
def expected(server: Server) -> str:
    return answer(User(server, ALICE))


@pytest.fixture(autouse=True)
def unharmed(server: Server, expected: str) -> Iterator[None]:
    before = {process.pid for process in server.running.processes()}
    yield
    assert answer(User(server, ALICE)) == expected
    assert {process.pid for process in server.running.processes()} >= before


def generate(**fields: Any) -> tuple[str, dict[str, Any]]:
    return "/generate", {"text": "Hello", "sampling_params": {"max_new_tokens": 2}, **fields}


def ids(*tokens: Any) -> tuple[str, dict[str, Any]]:
    return "/generate", {"input_ids": list(tokens), "sampling_params": {"max_new_tokens": 2}}


def sampling(**params: Any) -> tuple[str, dict[str, Any]]:
    return "/generate", {"text": "Hello", "sampling_params": {"max_new_tokens": 2, **params}}


def completion(**fields: Any) -> tuple[str, dict[str, Any]]:
    return "/v1/completions", {"model": "m", "prompt": "Hello", "max_tokens": 2, **fields}


def chat(**fields: Any) -> tuple[str, dict[str, Any]]:
    messages = [{"role": "user", "content": "Hello"}]
    return "/v1/chat/completions", {"model": "m", "messages": messages, "max_tokens": 2, **fields}


INF = float("inf")
FAULTS: dict[str, tuple[str, dict[str, Any]]] = {
    "input_ids": ids(10**9),
    "input_ids -1": ids(-1),
    "input_ids 2**40": ids(2**40),
    "input_ids 2**70": ids(2**70),
    "prompt empty": ids([]),
    "input_ids text": ids("a"),
    "input_ids mixed": ids(1, [2]),
    "top_logprobs_num": generate(return_logprob=True, top_logprobs_num=10**9),
    "top_logprobs_num 2**70": generate(return_logprob=True, top_logprobs_num=2**70),
    "stop_regex that backtracks": sampling(stop_regex="(a+)+b"),
    "stop_regex without end": sampling(stop_regex=["x", r"\s*y"]),
    "stop_regex that is none": sampling(stop_regex="("),
    "top_logprobs_num list": generate(return_logprob=True, top_logprobs_num=[1, 2]),
    "logprob_start_len": generate(return_logprob=True, logprob_start_len=-5),
    "token_ids_logprob": generate(return_logprob=True, token_ids_logprob=[10**9]),
    "logit_bias string": sampling(logit_bias={"1": "x"}),
    "logit_bias list": sampling(logit_bias=[1]),
    "logit_bias inf": sampling(logit_bias={"1": INF}),
    "logit_bias key": sampling(logit_bias={"x": 1}),
    "max_new_tokens": sampling(max_new_tokens=1.5),
    "max_new_tokens 2**70": sampling(max_new_tokens=2**70),
    "temperature": sampling(temperature="hot"),
    "temperature NaN": sampling(temperature=float("nan")),
    "repetition_penalty": sampling(repetition_penalty=1e-300),
    "stop_token_ids": sampling(min_new_tokens=1, stop_token_ids=[10**12]),
    "stop": sampling(stop=[1]),
    "n 8.0": sampling(n=8.0),
    "n string": sampling(n="8"),
    "n 0": sampling(n=0),
    "n huge": sampling(n=10**9),
    "sampling_params list": generate(sampling_params=[{"n": 1}]),
    "sampling_params lists": generate(text=["a"], sampling_params=[[1]]),
    "sampling_params unknown": sampling(nonsense=1),
    "http_worker_ipc": generate(http_worker_ipc="ipc:///tmp/x"),
    "lora_id": generate(lora_id="x"),
    "custom_labels": generate(custom_labels={"x": "y"}),
    "bootstrap_room": generate(bootstrap_room=1),
    "session_params": generate(session_params={"id": 5}),
    "session_params offset": generate(session_params={"id": "s", "offset": -1}),
    "rid": generate(rid="x" * 5000),
    "custom_logit_processor": generate(custom_logit_processor="x"),
    "return_hidden_states": generate(return_hidden_states=True),
    "mm_hashes": generate(mm_hashes=["1f"]),
    "image_data": generate(image_data="data:image/png;base64,AAAA"),  # of a model of text
    "image_data url": generate(image_data="http://127.0.0.1:1/"),
    "image_data path": generate(image_data=[{"url": "/etc/passwd"}]),
    "video_data path": generate(video_data="file:///etc/passwd"),
    "audio_data path": generate(text=["a", "b"], audio_data=["/etc/passwd", None]),
    "prompt -1": completion(prompt=[-1]),
    "prompt 2**70": completion(prompt=[2**70]),
    "logprobs": completion(logprobs=10**6),
    "chat logprobs": chat(logprobs=True, top_logprobs=10**9),
    "chat stop_token_ids": chat(min_tokens=1, stop_token_ids=[10**12]),
    "chat n": chat(n=8.5),
    "query": ("/v1/score", {"model": "m", "query": [-1], "items": [[1]], "label_token_ids": [1]}),
    "label_token_ids": (
        "/v1/score",
        {"model": "m", "query": [1], "items": [[1]], "label_token_ids": [2**40]},
    ),
    "instances": ("/vertex_generate", {"instances": [{"text": "x"}], "parameters": {"what": 1}}),
}


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_refused(mallory: User, name: str, stream: bool) -> None:
    path, body = FAULTS[name]
    response = mallory.post(path, {**body, "stream": stream} if stream else body)
    assert response.status_code in (400, 403), response.text
    assert "site-packages" not in response.text
    assert 'File "' not in response.text


@pytest.fixture
def limited(server: Server) -> User:
    return User(server, LIMITED)


LONG = {"max_new_tokens": 1_000, "ignore_eos": True}
# Forty prompts or answers at once, as a body would hide them.
MANY = {
    "prompt beside text": completion(prompt=["x"] * 40, text=["x"]),
    "input_ids beside prompt": ("/generate", {"input_ids": [[1]] * 40, "prompt": ["x"]}),
    "n inside": ("/generate", {"text": "x", "n": 1, "sampling_params": {"n": 40}}),
    "n beside": completion(n=40, sampling_params={"n": 1}),
    "n as text": completion(n="40"),
    "n as a number with a point": completion(n=40.0),
    "params as a list": ("/generate", {"text": ["x"], "sampling_params": [{"n": 40}]}),
    "instances": ("/vertex_generate", {"instances": [{"text": "x"}] * 40}),
    "items": (
        "/v1/score",
        {"model": "m", "query": "x", "items": ["x"] * 40, "label_token_ids": [1]},
    ),
    "tokens of a chat": chat(n=40),
}


@pytest.mark.parametrize("name", MANY)
def test_no_body_hides_how_much_it_asks_for(limited: User, name: str) -> None:
    path, body = MANY[name]
    response = limited.post(path, body)
    assert response.status_code == 400, response.text
    assert response.json()["error"]["param"] == "max_running"
    assert "40 prompts at once" in response.text


def test_a_limit_is_a_429_where_a_stream_was_asked_for(limited: User) -> None:
    path, body = generate(text=["x"] * RUNNING, sampling_params=LONG)
    with ThreadPoolExecutor() as pool:
        running = pool.submit(limited.post, path, body)
        until(lambda: let_in(limited.server) == RUNNING)
        refused = User(limited.server, LIMITED).post(path, {**body, "stream": True})
        assert refused.status_code == 429, refused.text
        assert int(refused.headers["Retry-After"]) >= 1
        assert running.result().status_code == 200
    assert limited.post(path, {**body, "sampling_params": GREEDY}).status_code == 200


def let_in(server: Server) -> int:
    """How many prompts the limits let run."""
    stats = User(server, ADMIN).http.get("/tenant/stats").json()
    return int(stats["process"]["running"])


def hang_up(user: User, path: str, body: dict[str, Any], seconds: float) -> None:
    with pytest.raises(httpx.ReadTimeout):
        user.http.post(path, json=body, timeout=seconds)


def test_a_request_id_is_its_users_own(server: Server, alice: User, mallory: User) -> None:
    """Sixteen ids that all others begin with, and whose client is gone."""
    path, body = generate(text="count", sampling_params=LONG)
    with ThreadPoolExecutor(20) as pool:
        hers = pool.submit(alice.post, path, body)
        named = pool.submit(User(server, ALICE).post, path, {**body, "rid": "mine"})
        until(lambda: let_in(server) == 2)
        gone = [
            pool.submit(hang_up, User(server, MALLORY), path, {**body, "rid": rid}, 1.0)
            for rid in [*"0123456789abcdef", "min"]
        ]
        same = mallory.post(path, {**body, "rid": "mine", "sampling_params": GREEDY})
        for one in gone:
            one.result()
        for answered in (hers.result(), named.result()):
            assert answered.json()["meta_info"]["finish_reason"]["type"] == "length"
    assert same.status_code == 200
    assert same.json()["meta_info"]["id"] == "mine" == named.result().json()["meta_info"]["id"]


def test_an_id_of_health_checks_keeps_no_session_waiting(alice: User, mallory: User) -> None:
    """A busy scheduler drops health checks, which it knows by their ids."""
    with ThreadPoolExecutor(8) as pool:
        params = {"max_new_tokens": 1500, "ignore_eos": True}
        body = {"text": "Hello", "sampling_params": params, "rid": "long"}
        busy = pool.submit(alice.post, "/generate", body)
        for _ in range(10):
            asked = {"capacity_of_str_len": 100, "rid": "HEALTH_CHECK_", "http_worker_ipc": "x"}
            opened = mallory.post("/open_session", asked)
            assert opened.status_code == 200
            closed = {"session_id": opened.json(), "rid": "HEALTH_CHECK_"}
            assert mallory.post("/close_session", closed).status_code == 200
        assert not busy.done()
        assert busy.result().status_code == 200


def test_ids_are_the_clients_in_batches_and_streams(mallory: User) -> None:
    path, body = generate(text=["a", "b"], rid=["one", "two:!% é"])
    answers = mallory.post(path, body).json()
    assert [one["meta_info"]["id"] for one in answers] == ["one", "two:!% é"]
    stream = mallory.post(path, {**body, "stream": True}).text
    parts = [json.loads(line[6:]) for line in stream.splitlines() if line.startswith("data: {")]
    assert {(one["index"], one["meta_info"]["id"]) for one in parts} == {
        (0, "one"),
        (1, "two:!% é"),
    }
    several = mallory.post(path, {**body, "sampling_params": {"n": 2, "max_new_tokens": 1}}).json()
    assert all(one["meta_info"]["id"].startswith(("one_", "two:!% é_")) for one in several)


def test_only_its_user_cancels_a_response(alice: User, mallory: User) -> None:
    fields = {"model": "m", "input": "Hello", "background": True, "store": True}
    hers = alice.post("/v1/responses", {**fields, "max_output_tokens": 300}).json()
    mallory.post("/v1/responses", {**fields, "request_id": "resp_", "max_output_tokens": 300})
    mallory.http.post("/v1/responses/resp_/cancel")
    mallory.http.post(f"/v1/responses/{hers['id']}/cancel")
    until(lambda: alice.http.get(f"/v1/responses/{hers['id']}").json()["status"] != "queued")
    status = alice.http.get(f"/v1/responses/{hers['id']}").json()["status"]
    assert status in ("completed", "in_progress", "incomplete")


def until(true: Callable[[], bool], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_who_hangs_up_has_paid(server: Server) -> None:
    metered = User(server, "sk-metered")
    path, body = generate(text="word " * 180, sampling_params={"max_new_tokens": 2_000})
    for _ in range(PER_MINUTE // 500):
        with metered.http.stream("POST", path, json={**body, "stream": True}) as response:
            if response.status_code == 429:
                break
            next(response.iter_lines())
    refused = metered.post(path, body)
    assert refused.status_code == 429, refused.text
    assert refused.json()["error"]["param"] == "tokens_per_minute"


def test_a_prompt_that_cannot_fit_is_not_tokenized(mallory: User) -> None:
    process = mallory.server.running
    before = process.processor_seconds()
    response = mallory.post(*generate(text="a b " * 7_000_000))
    assert response.status_code == 400, response.text[:200]
    assert process.processor_seconds() - before < 3.0


LONG_TEXT = "lorem ipsum " * 120_000
TOKENIZING = {
    "generate": generate(text=LONG_TEXT),
    "completions": completion(prompt=LONG_TEXT),
    "chat": chat(messages=[{"role": "user", "content": LONG_TEXT}]),
    "responses": ("/v1/responses", {"model": "m", "input": LONG_TEXT}),
    "messages": (
        "/v1/messages",
        {"model": "m", "max_tokens": 2, "messages": [{"role": "user", "content": LONG_TEXT}]},
    ),
    "count_tokens": (
        "/v1/messages/count_tokens",
        {"model": "m", "messages": [{"role": "user", "content": LONG_TEXT}]},
    ),
    "tokenize": ("/tokenize", {"model": "m", "prompt": LONG_TEXT}),
    "ollama": (
        "/api/chat",
        {"model": "m", "messages": [{"role": "user", "content": LONG_TEXT}], "stream": False},
    ),
}


TRIES = 5


@pytest.mark.parametrize("name", TOKENIZING)
def test_others_do_not_wait_for_a_long_prompt(alice: User, mallory: User, name: str) -> None:
    """On the event loop, another user would wait each time for all of it.

    A busy machine may keep anybody waiting now and then: one try of several has to be free of that.
    """
    waited = []
    for _ in range(TRIES):
        longest, took = longest_wait_beside(alice, mallory, *TOKENIZING[name])
        waited.append(longest / took)
        if waited[-1] < 0.5:
            return
    pytest.fail(f"of the long request's time, another user waited for {waited}")


def longest_wait_beside(
    alice: User, mallory: User, path: str, body: dict[str, Any]
) -> tuple[float, float]:
    """Return the longest wait of one user while another has a long request, and how long that took.

    What is under way when the long one ends counts in full.
    """
    waits = []
    done = threading.Event()

    def look() -> None:
        while not done.is_set():
            asked = time.monotonic()
            alice.http.get("/v1/models")
            waits.append(time.monotonic() - asked)

    looking = threading.Thread(target=look)
    looking.start()
    began = time.monotonic()
    response = mallory.post(path, body)
    took = time.monotonic() - began
    done.set()
    looking.join()
    assert response.status_code in (200, 400), response.text
    assert response.status_code == 200 or "tokens" in response.text  # counted
    return max(waits), took


@pytest.mark.parametrize("nested", ["[" * 200 + "]" * 200, '{"a":' * 100 + "1" + "}" * 100])
def test_a_body_is_not_nested_deeply(mallory: User, nested: str) -> None:
    body = '{"text": "x", "session_params": ' + nested + "}"
    response = mallory.http.post(
        "/generate", content=body, headers={"Content-Type": "application/json"}
    )
    assert response.status_code == 400
    assert response.json()["error"]["param"] == "body"


def test_a_body_is_not_read_before_its_key(server: Server) -> None:
    def endless() -> Iterator[bytes]:
        for _ in range(4096):
            yield b"x" * 65_536
            sent.append(65_536)

    sent: list[int] = []
    headers = {"Content-Type": "application/json", "Authorization": "Bearer sk-nobody"}
    try:
        response = httpx.post(f"{server.url}/generate", content=endless(), headers=headers)
        assert response.status_code == 401
    except httpx.HTTPError:
        pass  # the server closed the connection while we were still sending
    assert sum(sent) < 32 << 20


def test_a_body_is_no_larger_than_allowed(mallory: User) -> None:
    response = mallory.post(*generate(text="x" * (33 << 20)))
    assert response.status_code == 413
    assert response.json()["error"]["param"] == "body"


def test_a_get_has_a_body_no_larger_than_that(mallory: User) -> None:
    headers = {"Content-Type": "application/json"}
    body = b'{"capacity_of_str_len": 100}'
    for padding, status in ((0, 200), (33 << 20, 413)):
        response = mallory.http.request(
            "GET", "/open_session", content=body + b" " * padding, headers=headers
        )
        assert response.status_code == status, response.text


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_a_chat_of_ollamas_is_answered(mallory: User, stream: bool) -> None:
    body = {"model": "m", "messages": [{"role": "user", "content": "Hello"}], "stream": stream}
    options = {"num_predict": 8, "temperature": 0, "seed": 3}
    response = mallory.post("/api/chat", {**body, "options": options})
    assert response.status_code == 200, response.text
    parts = [json.loads(line) for line in response.text.splitlines()]
    chat = mallory.post(
        "/v1/chat/completions", {**body, "stream": False, "max_tokens": 8, "temperature": 0}
    ).json()
    said = "".join(part["message"]["content"] for part in parts)
    assert chat["choices"][0]["message"]["content"].startswith(said)
    assert len(said) > 0
    assert parts[-1]["done"]


def test_what_an_error_says_of_a_request_is_not_logged(server: Server, mallory: User) -> None:
    secrets = ("vzqxwa", "vzqxwb")
    quoted = [{"type": "message", "role": "user", "content": [{"type": secrets[0]}]}]
    assert mallory.post("/v1/responses", {"model": "m", "input": quoted}).status_code == 400
    messages = [{"role": "user", "content": "x"}, {"role": secrets[1], "content": "x"}]
    assert mallory.post(*chat(messages=messages)).status_code == 400
    until(lambda: "Error in preprocessing prompt inputs" in server.log)
    assert "ValidationError" in server.log
    told = [line for line in server.log.splitlines() if any(word in line for word in secrets)]
    assert not told


def half_a_body(
    server: Server,
    key: str,
    path: str = "/generate",
    kind: str = "application/json",
    begun: str = "{",
) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", server.running.port), timeout=30)
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\n"
    head += f"Content-Type: {kind}\r\nContent-Length: 1000\r\n\r\n{begun}"
    connection.sendall(head.encode())
    return connection


def status_of(connection: socket.socket) -> int:
    with connection:
        return int(connection.recv(4096).split()[1])


def test_half_bodies_end_and_are_counted(server: Server, mallory: User) -> None:
    halves = [half_a_body(server, MALLORY) for _ in range(CONNECTIONS + 5)]
    statuses = Counter(status_of(half) for half in halves)
    assert statuses == {408: CONNECTIONS, 429: 5}
    assert mallory.post(*generate()).status_code == 200


def test_half_a_form_ends_too(server: Server) -> None:
    kind = "multipart/form-data; boundary=x"
    form = half_a_body(server, MALLORY, "/v1/audio/transcriptions", kind, "--x\r\n")
    assert status_of(form) == 408


@pytest.mark.parametrize("key", ["sk-nobody", ""])
def test_nobody_holds_a_connection_without_a_key(server: Server, key: str) -> None:
    began = time.monotonic()
    assert status_of(half_a_body(server, key)) == 401
    assert time.monotonic() - began < 2.0


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_a_hostile_grammar_is_refused_and_others_go_on(
    server: Server, alice: User, mallory: User, stream: bool
) -> None:
    body = {"text": "Once", "sampling_params": {**GREEDY, "max_new_tokens": 400}}
    alone = alice.post("/generate", body).json()["output_ids"]
    with ThreadPoolExecutor() as pool:
        hers = pool.submit(User(server, ALICE).post, "/generate", body)
        for name, (field, grammar, said) in HOSTILE.items():
            path, asked = sampling(**{field: grammar})
            response = mallory.post(path, {**asked, "stream": stream})
            assert response.status_code == 400, (name, response.text[:200])
            assert response.json()["error"]["param"] == field, name
            assert said in response.text, name
            assert "/cpp/" not in response.text
        assert hers.result().json()["output_ids"] == alone


@pytest.mark.parametrize("name", HONEST)
def test_an_honest_grammar_is_followed(mallory: User, name: str) -> None:
    field, grammar = HONEST[name]
    path, body = sampling(**{field: grammar, "max_new_tokens": 60, "temperature": 0})
    first, second = (mallory.post(path, body) for _ in range(2))
    assert first.status_code == 200, first.text
    assert first.json()["text"] == second.json()["text"]
    if name == "regex":
        assert re.match(r"\d{3}-\d{4}(foo|bar)", first.json()["text"])
    if name == "schema":
        assert set(json.loads(first.json()["text"])) == {"name", "age"}


FORMAT = {"type": "json_schema", "json_schema": {"name": "person", "schema": SCHEMA}}
FUNCTION = {"name": "save", "description": "Save it.", "parameters": SCHEMA}
TOOLS = {"tools": [{"type": "function", "function": FUNCTION}], "tool_choice": "required"}
ENDLESS = {"$ref": "#"}
HEAVY = {"type": "object", "properties": {"a": {"anyOf": INTEGERS}}}


def test_formats_and_tools_of_other_endpoints_are_grammars_too(mallory: User) -> None:
    formatted = mallory.post(*chat(response_format=FORMAT, max_tokens=80, temperature=0))
    assert formatted.status_code == 200, formatted.text
    said = formatted.json()["choices"][0]["message"]["content"]
    assert set(json.loads(said)) == {"name", "age"}
    called = mallory.post(*chat(**TOOLS, parallel_tool_calls=False, max_tokens=200, temperature=0))
    assert called.status_code == 200, called.text
    # Without --tool-call-parser the call stays in the content.
    (call,) = json.loads(called.json()["choices"][0]["message"]["content"])
    assert call["name"] == "save"
    assert set(call["parameters"]) == {"name", "age"}
    for path, body in (
        chat(response_format={**FORMAT, "json_schema": {"name": "x", "schema": ENDLESS}}),
        completion(response_format={**FORMAT, "json_schema": {"name": "x", "schema": ENDLESS}}),
        completion(regex=HOSTILE["unbalanced"][1]),
        chat(
            tools=[{"type": "function", "function": {**FUNCTION, "parameters": HEAVY}}],
            tool_choice="required",
        ),
    ):
        refused = mallory.post(path, body)
        assert refused.status_code == 400, refused.text
        assert refused.json()["error"]["param"] in ("json_schema", "regex", "structural_tag")


def test_each_grammar_of_a_batch_is_tried(mallory: User) -> None:
    good = {"max_new_tokens": 2, "regex": "a+"}
    params = [good, good, {"max_new_tokens": 2, "regex": "b+"}]
    body = {"text": ["x", "y", "z"], "sampling_params": params}
    assert mallory.post("/generate", body).status_code == 200
    params[2] = {"regex": "("}
    assert mallory.post("/generate", body).json()["error"]["param"] == "regex"
    assert mallory.post(*sampling(regex=["a"])).json()["error"]["param"] == "regex"
    assert mallory.post(*sampling(regex="a" * 70_000)).json()["error"]["param"] == "regex"


def test_the_log_shows_no_grammar(server: Server, mallory: User) -> None:
    secret = "hunter2hunter2"
    for field in ("json_schema", "regex", "ebnf", "structural_tag"):
        assert mallory.post(*sampling(**{field: f"( {secret}"})).status_code == 400
    assert secret not in server.log


def test_operators_see_what_became_of_grammars(server: Server) -> None:
    User(server, MALLORY).post(*sampling(regex="a+"))
    counted = User(server, ADMIN).http.get("/tenant/grammars").json()["grammars"]
    assert counted["pid"] in {process.pid for process in server.running.processes()}
    assert counted["counts"]["tried"] >= 1
    assert User(server, MALLORY).http.get("/tenant/grammars").status_code in (401, 403)
