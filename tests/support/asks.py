"""One question at any of the server's endpoints, and what the reply says of the cache."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import httpx
from openai import OpenAI

from support.patience import until
from support.server import Server

MODEL = "demo"
TIMEOUT = 120.0  # seconds

http = httpx.Client(timeout=TIMEOUT)


@dataclass(frozen=True)
class Reply:
    """``cached``: how many of ``prompt_tokens`` came from the cache."""

    text: str
    prompt_tokens: int
    cached: int

    @property
    def hit(self) -> bool:
        """Whether all of the prompt was found, but for the last page (16 at most)."""
        return self.cached > 0 and self.cached >= self.prompt_tokens - 16


@dataclass(frozen=True)
class Asker:
    """Somebody who sends requests to ``server``: with a key, with headers, or neither."""

    server: Server
    key: str | None = None
    headers: dict[str, str] | None = None

    def ask(self, endpoint: str, prompt: str, **body: Any) -> Reply:
        """Greedy, four tokens. ``body`` is added to the request's body."""
        return ENDPOINTS[endpoint](self, prompt, body)

    def post(
        self, path: str, body: dict[str, Any] | None = None, *, anew: bool = False
    ) -> httpx.Response:
        """Any request, any answer; ``anew``: over a connection of its own."""
        headers = self.all_headers | ({"Connection": "close"} if anew else {})
        return http.post(self.server.url + path, json=body, headers=headers)

    def generate(self, **body: Any) -> Any:
        """The JSON of ``/generate``. Raises where it is no 200."""
        response = self.post("/generate", {"sampling_params": sampling()} | body)
        response.raise_for_status()
        return response.json()

    def empty_cache(self) -> None:
        """On device and host, as soon as the server is idle; what is being written to storage
        gets there first."""
        until(lambda: self.post("/flush_cache").status_code == 200, "the server is idle")

    @property
    def all_headers(self) -> dict[str, str]:
        own = self.headers or {}
        return own if self.key is None else own | {"Authorization": f"Bearer {self.key}"}

    @property
    def openai(self) -> OpenAI:
        return _client(self.server.url, self.key or "none", tuple((self.headers or {}).items()))


@lru_cache
def _client(url: str, key: str, headers: tuple[tuple[str, str], ...]) -> OpenAI:
    return OpenAI(
        base_url=f"{url}/v1",
        api_key=key,
        default_headers=dict(headers),
        max_retries=0,
        timeout=TIMEOUT,
    )


def sampling(tokens: int = 4) -> dict[str, Any]:
    """Greedy, and exactly this many tokens."""
    return {"max_new_tokens": tokens, "temperature": 0, "ignore_eos": True}


def _generate(asker: Asker, prompt: str, body: dict[str, Any]) -> Reply:
    return _generated(asker.generate(text=prompt, **body))


def _generate_stream(asker: Asker, prompt: str, body: dict[str, Any]) -> Reply:
    request = {"text": prompt, "stream": True, "sampling_params": sampling()} | body
    url = asker.server.url + "/generate"
    last = ""
    with http.stream("POST", url, json=request, headers=asker.all_headers) as response:
        response.raise_for_status()
        for line in response.iter_lines():
            if line.startswith("data: ") and line != "data: [DONE]":
                last = line.removeprefix("data: ")
    return _generated(httpx.Response(200, text=last).json())


def _generated(reply: dict[str, Any]) -> Reply:
    meta = reply["meta_info"]
    return Reply(reply["text"], meta["prompt_tokens"], meta["cached_tokens"])


def _completions(asker: Asker, prompt: str, body: dict[str, Any]) -> Reply:
    reply = asker.openai.completions.create(prompt=prompt, **_greedy(body))
    return _used(reply.choices[0].text, reply.usage)


def _completions_stream(asker: Asker, prompt: str, body: dict[str, Any]) -> Reply:
    chunks = list(asker.openai.completions.create(prompt=prompt, **_greedy(body, stream=True)))
    text = "".join(choice.text for chunk in chunks for choice in chunk.choices)
    return _used(text, chunks[-1].usage)


def _chat(asker: Asker, prompt: str, body: dict[str, Any]) -> Reply:
    reply = asker.openai.chat.completions.create(messages=_messages(prompt), **_greedy(body))
    return _used(reply.choices[0].message.content or "", reply.usage)


def _chat_stream(asker: Asker, prompt: str, body: dict[str, Any]) -> Reply:
    stream = asker.openai.chat.completions.create(
        messages=_messages(prompt), **_greedy(body, stream=True)
    )
    chunks = list(stream)
    text = "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)
    return _used(text, chunks[-1].usage)


def _messages(prompt: str) -> Any:
    return [{"role": "system", "content": prompt}, {"role": "user", "content": "hi"}]


def _greedy(body: dict[str, Any], stream: bool = False) -> dict[str, Any]:
    options: dict[str, Any] = {"model": MODEL, "max_tokens": 4, "temperature": 0}
    if stream:
        options |= {"stream": True, "stream_options": {"include_usage": True}}
    return options | {"extra_body": body}


def _used(text: str, usage: Any) -> Reply:
    details = usage.prompt_tokens_details
    return Reply(text, usage.prompt_tokens, (details.cached_tokens or 0) if details else 0)


def _responses(asker: Asker, prompt: str, body: dict[str, Any]) -> Reply:
    return _responded(asker.openai.responses.create(**_response_request(prompt, body)))


def _responses_stream(asker: Asker, prompt: str, body: dict[str, Any]) -> Reply:
    events = list(asker.openai.responses.create(stream=True, **_response_request(prompt, body)))
    return _responded(next(e.response for e in events if e.type == "response.completed"))


def _response_request(prompt: str, body: dict[str, Any]) -> dict[str, Any]:
    options = {"model": MODEL, "max_output_tokens": 4, "temperature": 0, "input": prompt}
    return options | {"extra_body": body}


def _responded(response: Any) -> Reply:
    usage = response.usage.model_dump()
    # The server names these as chat does where it does not stream, and leaves out zeros.
    names = "input" if usage.get("input_tokens") is not None else "prompt"
    details = usage.get(f"{names}_tokens_details") or {}
    return Reply(response.output_text, usage[f"{names}_tokens"], details.get("cached_tokens") or 0)


ENDPOINTS: dict[str, Callable[[Asker, str, dict[str, Any]], Reply]] = {
    "generate": _generate,
    "generate streaming": _generate_stream,
    "completions": _completions,
    "completions streaming": _completions_stream,
    "chat": _chat,
    "chat streaming": _chat_stream,
    "responses": _responses,
    "responses streaming": _responses_stream,
}
