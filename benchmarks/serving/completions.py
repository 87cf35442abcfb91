"""What a client of /v1/completions sees of an answer besides its text."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp

from serving.connection import Connection

PATH = "/v1/completions"
HIT = "HIT"
REQUEST_SECONDS = 300.0


@dataclass(frozen=True)
class Completion:
    """An answer, or a refusal. ``seconds``: to the first byte of the body.

    ``cache``, ``age``: the headers X-Cache and Age; ``names``: of all headers. ``id``, ``cached``:
    of the answer and its usage.
    """

    status: int
    seconds: float
    cache: str | None
    age: str | None
    names: frozenset[str]
    id: str | None
    cached: int

    @property
    def is_hit(self) -> bool:
        return self.cache == HIT

    @property
    def looks(self) -> tuple[Any, ...]:
        """Everything but times, texts and ids, which no two answers have in common."""
        return self.status, self.cache, self.age, self.names, self.cached


class CompletionsClient(Connection):
    """Asks one server, as anybody. To be used in an ``async with`` statement."""

    def __init__(self, url: str) -> None:
        super().__init__(url, aiohttp.ClientTimeout(total=REQUEST_SECONDS))

    async def ask(
        self,
        body: Mapping[str, Any],
        headers: Mapping[str, str],
        *,
        begun: asyncio.Event | None = None,
    ) -> Completion:
        """Ask, and read the answer to its end. ``begun`` is set with its first byte."""
        started = time.perf_counter()
        async with self.http.post(self.url + PATH, json=body, headers=headers) as response:
            content = await response.content.readany()
            seconds = time.perf_counter() - started
            if begun is not None:
                begun.set()
            content += await response.content.read()
        return _completion(response, seconds, content)


def _completion(response: aiohttp.ClientResponse, seconds: float, content: bytes) -> Completion:
    said = _objects(content)
    usage: dict[str, Any] = next((each["usage"] for each in said if each.get("usage")), {})
    return Completion(
        status=response.status,
        seconds=seconds,
        cache=response.headers.get("X-Cache"),
        age=response.headers.get("Age"),
        names=frozenset(name.lower() for name in response.headers),
        id=next((each["id"] for each in said if "id" in each), None),
        cached=int((usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0),
    )


def _objects(content: bytes) -> list[dict[str, Any]]:
    """Return the events of a stream, or the one object that an answer is."""
    if not content.startswith(b"data: "):
        return [json.loads(content)]
    lines = [line[6:] for line in content.splitlines() if line.startswith(b"data: {")]
    return [json.loads(line) for line in lines]
