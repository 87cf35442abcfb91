"""The response proxy as a process, in front of a server that knows no users."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from server_process import free_port
from support.prompts import fresh_prompt
from support.response_proxy import as_a_process, running
from support.server import Server

pytestmark = pytest.mark.server

KEY = "sk-of-the-server"


@pytest.fixture(scope="module")
def upstream(tiny_model: Path) -> Iterator[Server]:
    with Server(tiny_model, "--api-key", KEY) as server:
        yield server


@pytest.fixture(scope="module")
def proxy(upstream: Server) -> Iterator[str]:
    with as_a_process(upstream.url) as url:
        yield url


def chat(url: str, text: str, key: str | None = KEY, **fields: Any) -> httpx.Response:
    body = {"model": "demo", "max_tokens": 6, "temperature": 0, **fields}
    body["messages"] = [{"role": "user", "content": text}]
    headers = {} if key is None else {"Authorization": f"Bearer {key}"}
    return httpx.post(url + "/v1/chat/completions", json=body, headers=headers, timeout=120)


def said(answer: httpx.Response) -> str:
    assert answer.status_code == 200, answer.text
    return answer.headers["x-cache"]


def test_the_same_request_is_answered_once(proxy: str) -> None:
    text = fresh_prompt(20)
    first, again = chat(proxy, text), chat(proxy, text)
    assert [said(first), said(again)] == ["MISS", "HIT"]
    assert again.json() == first.json()
    assert said(chat(proxy, text, user="another")) == "MISS"


def test_openai_s_client_streams_through_it(proxy: str) -> None:
    client = openai.OpenAI(base_url=proxy + "/v1", api_key=KEY)
    text = fresh_prompt(20)
    told = []
    for _ in range(2):
        stream = client.chat.completions.create(
            model="demo",
            messages=[{"role": "user", "content": text}],
            max_tokens=8,
            temperature=0,
            stream=True,
            stream_options={"include_usage": True},
        )
        chunks = list(stream)
        assert chunks[-1].usage is not None
        told.append("".join(c.choices[0].delta.content or "" for c in chunks if c.choices))
    assert told[0] == told[1] != ""


def test_errors_come_as_they_are(proxy: str, upstream: Server) -> None:
    text = fresh_prompt(20)
    wrong = chat(proxy, text, "sk-wrong")
    assert wrong.status_code == chat(upstream.url, text, "sk-wrong").status_code == 401
    assert said(chat(proxy, text)) == "MISS"
    assert chat(proxy, text, "sk-wrong").status_code == 401  # no key is given another's answer
    bad = chat(proxy, text, top_p=7)
    assert bad.status_code == 400
    assert bad.json() == chat(upstream.url, text, top_p=7).json()
    for raw in (b"{", b"[]", b"", b"\xff"):
        headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}
        url = "/v1/chat/completions"
        direct = httpx.post(upstream.url + url, content=raw, headers=headers)
        through = httpx.post(proxy + url, content=raw, headers=headers)
        assert (through.status_code, through.content) == (direct.status_code, direct.content)
    assert httpx.get(proxy + "/no/such/path").status_code in (401, 404)


def test_all_else_is_passed_on(proxy: str, upstream: Server) -> None:
    headers = {"Authorization": f"Bearer {KEY}"}
    for path in ("/health", "/v1/models", "/model_info?a=b"):
        through = httpx.get(proxy + path, headers=headers)
        assert through.status_code == 200
        if path != "/health":
            direct = httpx.get(upstream.url + path, headers=headers).json()
            assert _timeless(through.json()) == _timeless(direct)


def _timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _timeless(part) for name, part in value.items() if name != "created"}
    return [_timeless(part) for part in value] if isinstance(value, list) else value


def test_nobody_s_requests_are_kept_where_that_is_asked_for(tiny_model: Path) -> None:
    with Server(tiny_model) as open_server:
        text = fresh_prompt(20)
        with running(open_server.url) as url:
            assert [said(chat(url, text, None)) for _ in range(2)] == ["BYPASS", "BYPASS"]
            assert [said(chat(url, text, None, user="u")) for _ in range(2)] == ["MISS", "HIT"]
        with running(open_server.url, "--anonymous", "share", "--quiet") as url:
            assert [said(chat(url, text, None)) for _ in range(2)] == ["MISS", "HIT"]


def test_a_file_outlives_the_proxy(upstream: Server, tmp_path: Path) -> None:
    text, path = fresh_prompt(20), str(tmp_path / "kept.sqlite")
    with running(upstream.url, "--cache-path", path) as url:
        assert said(chat(url, text)) == "MISS"
    with running(upstream.url, "--cache-path", path) as url:
        assert said(chat(url, text)) == "HIT"
    with running(upstream.url, "--cache-path", path, "--overwrite") as url:
        assert said(chat(url, text)) == "MISS"


def test_operators_read_and_clear(upstream: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SGLANG_TENANT_ADMIN_KEY", "sk-admin")
    admin = {"Authorization": "Bearer sk-admin"}
    with running(upstream.url) as url:
        text = fresh_prompt(20)
        for _ in range(2):
            chat(url, text)
        for path in ("/cache/stats", "/cache/info"):
            assert httpx.get(url + path).status_code == 401
            assert httpx.get(url + path, headers=admin).status_code == 200
        stats = httpx.get(url + "/cache/stats", headers=admin).json()
        assert (stats["num_keys"], stats["hits"], stats["misses"]) == (1, 1, 1)
        assert stats["hit_rate"] == 0.5
        assert httpx.get(url + "/cache/clear", headers=admin).status_code == 405
        assert httpx.post(url + "/cache/clear", headers=admin).json() == {"cleared": 1}
        assert said(chat(url, text)) == "MISS"


def test_a_server_that_is_down_is_said_to_be() -> None:
    with running(f"http://127.0.0.1:{free_port()}") as url:
        answer = chat(url, "x")
        assert answer.status_code == 502
        assert answer.json()["error"]["param"] == "upstream"


def test_another_cache_s_file_is_taken_over(tiny_model: Path, tmp_path: Path) -> None:
    text = fresh_prompt(20)
    request = {"model": "demo", "max_tokens": 6, "temperature": 0.7}
    request["messages"] = [{"role": "user", "content": text}]
    choice = {"index": 0, "finish_reason": "stop"}
    answers = [
        {
            "id": f"chat-{number}",
            "object": "chat.completion",
            "created": 1,
            "model": "demo",
            "choices": [choice | {"message": {"role": "assistant", "content": f"said {number}"}}],
        }
        for number in range(2)
    ]
    path = tmp_path / "cache.jsonl"
    there = {"endpoint": "/v1/chat/completions", "request": request, "responses": answers}
    path.write_text(f"{json.dumps(there)}\nthis is no JSON\n")
    with running("http://127.0.0.1:9", "--anonymous", "share", "--import", str(path)) as url:
        kept = chat(url, text, None, temperature=0.7, cache_bucket=2, n=2)
        assert said(kept) == "HIT"
        told = [choice["message"]["content"] for choice in kept.json()["choices"]]
        assert told == ["said 0", "said 1"]
        headers = {"Cache-Control": "max-age=1000000000"}
        plain = httpx.post(url + "/v1/chat/completions", json=request, headers=headers)
        assert said(plain) == "HIT"
