"""What a client of the HTTP API sees of one request: how soon, how much cached, in what order."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import aiohttp

from serving.connection import Connection, Refused

Prompt = Sequence[int] | str

REQUEST_SECONDS = 300.0
SCAN_SECONDS = 60.0


@dataclass(frozen=True)
class Answer:
    """Times in seconds. ``done_at`` is a moment of time.perf_counter.

    ``cached``: tokens of the prompt found in the cache, ``from_host`` of them in host memory.
    ``output``: the tokens of the answer.
    """

    ttft: float
    total: float
    done_at: float
    prompt_tokens: int
    cached: int
    from_host: int
    output_tokens: int
    output: tuple[int, ...] = ()

    @property
    def first_at(self) -> float:
        """The moment of the first token."""
        return self.done_at - self.total + self.ttft


class Client(Connection):
    """Sends requests to one server. To be used in an ``async with`` statement."""

    def __init__(self, url: str, admin_key: str | None = None) -> None:
        super().__init__(url, aiohttp.ClientTimeout(total=REQUEST_SECONDS))
        self._admin = {"Authorization": f"Bearer {admin_key}"} if admin_key else {}

    async def ask(
        self,
        prompt: Prompt,
        user: str | None = None,
        *,
        output: int = 1,
        headers: Mapping[str, str] | None = None,
        accepted: asyncio.Event | None = None,
        **fields: Any,
    ) -> Answer:
        """Stream ``output`` tokens from /generate. Raises Refused.

        ``accepted`` is set when the server has taken the request, long before its first token.
        """
        body = _body(prompt, output, user) | {"stream": True, **fields}
        started = time.perf_counter()
        first: float | None = None
        last = b""
        async with self.http.post(f"{self.url}/generate", json=body, headers=headers) as response:
            if response.status != 200:
                raise Refused(response.status, await response.text())
            if accepted is not None:
                accepted.set()
            async for line in response.content:
                if line.startswith(b"data: {"):
                    first = first or time.perf_counter()
                    last = line
        done = time.perf_counter()
        chunk: dict[str, Any] = json.loads(last[6:]) if last else {"error": "no chunk"}
        if first is None or "meta_info" not in chunk:
            raise Refused(200, str(chunk.get("error", chunk)))
        return _answer(chunk, first - started, done - started, done)

    async def cached(
        self, prompts: Sequence[Prompt], users: Sequence[str | None], **fields: Any
    ) -> list[int]:
        """Send a batch of one output token each; return the cached tokens of each prompt."""
        answers = await self._post("/generate", _batch(prompts, users) | fields)
        return [int(answer["meta_info"]["cached_tokens"] or 0) for answer in answers]

    async def chat(self, text: str, user: str | None = None) -> int:
        """Send a chat message; return its cached tokens."""
        message = {"role": "user", "content": text}
        body = {"model": "default", "messages": [message], "max_tokens": 1, "temperature": 0}
        answer = await self._post("/v1/chat/completions", body | _name(user))
        details = answer["usage"].get("prompt_tokens_details") or {}
        return int(details.get("cached_tokens") or 0)

    async def flush(self) -> None:
        """Empty the cache. Raises Refused where the server stays busy."""
        status = await self.flush_cache(self._admin)
        if status != 200:
            raise Refused(status, "the cache was not emptied")

    async def tenant_stats(self) -> dict[str, Any] | None:
        """What operators see of owners and promotions; None from a server that has no such."""
        async with self.http.get(f"{self.url}/tenant/stats", headers=self._admin) as response:
            return dict(await response.json()) if response.status == 200 else None

    async def detector(self) -> dict[str, Any] | None:
        """What the detector is and has done; None where there is none. Raises Refused."""
        url = f"{self.url}/tenant/detector"
        async with self.http.get(url, headers=self._admin) as response:
            if response.status != 200:
                raise Refused(response.status, await response.text())
            found: dict[str, Any] | None = (await response.json())["detector"]
            return found

    async def scan_results_are_in(self) -> None:
        """Wait until the server's detector, if it has one, has scanned all that was sent.

        Raises Refused without the admin key, TimeoutError where it does not come to an end.
        """
        deadline = time.monotonic() + SCAN_SECONDS
        while (stats := await self.detector()) and not _all_scanned(stats["counts"]):
            if time.monotonic() > deadline:
                raise TimeoutError(f"the detector is still at work: {stats['counts']}")
            await asyncio.sleep(0.02)

    async def _post(self, path: str, body: Mapping[str, Any]) -> Any:
        async with self.http.post(self.url + path, json=body) as response:
            if response.status != 200:
                raise Refused(response.status, await response.text())
            return await response.json()


def _all_scanned(counts: Mapping[str, int]) -> bool:
    ends = ("dropped", "lost", "without_text", "sensitive", "not_sensitive")
    return counts.get("offered", 0) == sum(counts.get(end, 0) for end in ends)


def _name(user: str | None) -> dict[str, Any]:
    return {} if user is None else {"user_id": user}


def _body(prompt: Prompt, output: int, user: str | None) -> dict[str, Any]:
    field = "text" if isinstance(prompt, str) else "input_ids"
    value = prompt if isinstance(prompt, str) else list(prompt)
    return {field: value, "sampling_params": _sampling(output), **_name(user)}


def _batch(prompts: Sequence[Prompt], users: Sequence[str | None]) -> dict[str, Any]:
    text = isinstance(prompts[0], str)
    values = list(prompts) if text else [list(prompt) for prompt in prompts]
    body = {"text" if text else "input_ids": values, "sampling_params": _sampling(1)}
    return body if users[0] is None else body | {"user_id": list(users)}


def _sampling(output: int) -> dict[str, Any]:
    return {"temperature": 0, "max_new_tokens": output, "ignore_eos": True}


def _answer(chunk: Mapping[str, Any], ttft: float, total: float, done: float) -> Answer:
    meta = chunk["meta_info"]
    details = meta.get("cached_tokens_details") or {}
    return Answer(
        ttft=ttft,
        total=total,
        done_at=done,
        prompt_tokens=int(meta["prompt_tokens"]),
        cached=int(meta["cached_tokens"] or 0),
        from_host=int(details.get("host") or 0),
        output_tokens=int(meta["completion_tokens"]),
        output=tuple(chunk.get("output_ids") or ()),
    )
