"""A client of any server that speaks OpenAI's completions: it sends a trace at its moments."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import aiohttp
from serving.connection import Connection, Refused, events
from typing_extensions import Self

from fair_service.record import Ask, Served

REFUSED = 429
CUT = "cut"  # the error of a request that nobody waited for any longer


@dataclass
class Reply:
    """``status``: of HTTP, 0 where there was none. ``error``: empty where all went well."""

    served: Served
    status: int = 0
    error: str = ""

    @property
    def finished(self) -> bool:
        return self.served.finished >= 0


@dataclass(frozen=True)
class Patience:
    """When requests are given up that are not finished: after ``least`` seconds, but only when
    all of the user ``awaited`` are finished, or after ``most``."""

    least: float
    most: float
    awaited: str | None = None


@dataclass(frozen=True)
class Speech:
    """How to speak to one server.

    ``exact``: ask for answers of exact length by ``ignore_eos``, a field that SGLang and vLLM
    know. ``keys``: user -> API key; ``*``: everybody else's.
    """

    exact: bool = True
    keys: Mapping[str, str] | None = None

    def body(self, model: str, ask: Ask) -> dict[str, Any]:
        body = {
            "model": model,
            "prompt": list(ask.prompt),
            "max_tokens": ask.answer,
            "temperature": 0,
            "user": ask.user,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        return body | {"ignore_eos": True} if self.exact else body

    def headers(self, user: str) -> dict[str, str]:
        keys = self.keys or {}
        key = keys.get(user, keys.get("*"))
        return {"Authorization": f"Bearer {key}"} if key else {}


class Endpoint(Connection):
    """One server. To be used in an ``async with`` statement. ``url``: with or without /v1."""

    def __init__(self, url: str, speech: Speech | None = None) -> None:
        bare = url.rstrip("/").removesuffix("/v1")
        super().__init__(bare, aiohttp.ClientTimeout(total=None, connect=30))
        self.speech = speech or Speech()
        self._model = ""

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        try:
            self._model = await self._first_model()
        except BaseException:
            await self.http.close()
            raise
        return self

    async def _first_model(self) -> str:
        headers = self.speech.headers("*")
        async with self.http.get(f"{self.url}/v1/models", headers=headers) as answer:
            answer.raise_for_status()
            return str((await answer.json())["data"][0]["id"])

    async def play(
        self,
        asks: Iterable[Ask],
        patience: Patience | None = None,
        progress: Callable[[int], object] = lambda done: None,
    ) -> list[Reply]:
        """Send each request at its moment, whether or not others have been answered.

        Nothing is raised: what went wrong is in the replies, in the order of ``asks``.
        """
        started = time.perf_counter()
        replies = [Reply(Served(ask)) for ask in asks]
        tasks = [asyncio.create_task(self._sent(reply, started)) for reply in replies]
        for task in tasks:
            task.add_done_callback(lambda _: progress(1))
        if patience is not None:
            await _give_up(tasks, replies, patience)
        await asyncio.gather(*tasks, return_exceptions=True)
        return replies

    async def _sent(self, reply: Reply, started: float) -> None:
        ask = reply.served.ask
        try:
            await asyncio.sleep(ask.at - (time.perf_counter() - started))
            body, headers = self.speech.body(self._model, ask), self.speech.headers(ask.user)
            url = f"{self.url}/v1/completions"
            async with self.http.post(url, json=body, headers=headers) as answer:
                reply.status = answer.status
                await _read(answer, reply, started)
        except Refused as refusal:
            reply.error = refusal.detail
        except asyncio.CancelledError:
            reply.error = CUT
            raise
        except (aiohttp.ClientError, TimeoutError, OSError) as problem:
            reply.error = f"{type(problem).__name__}: {problem}"[:300]

    async def flush(self) -> bool:
        """Empty the cache. False where the server has no such request (SGLang does)."""
        return await self.flush_cache(self.speech.headers("*")) == 200


async def _give_up(
    tasks: Sequence[asyncio.Task[None]], replies: Sequence[Reply], patience: Patience
) -> None:
    await _wait(tasks, patience.least)
    both = zip(tasks, replies, strict=True)
    awaited = [task for task, reply in both if reply.served.ask.user == patience.awaited]
    await _wait(awaited, patience.most - patience.least)
    for task in tasks:
        task.cancel()


async def _wait(tasks: Sequence[asyncio.Task[None]], seconds: float) -> None:
    if tasks:
        await asyncio.wait(tasks, timeout=seconds)


async def _read(answer: aiohttp.ClientResponse, reply: Reply, started: float) -> None:
    async for chunk in events(answer):
        note(reply, chunk, time.perf_counter() - started)
    if not reply.error:
        if reply.served.first_token < 0:
            reply.error = "the answer was empty"
        else:
            reply.served.finished = time.perf_counter() - started


def note(reply: Reply, chunk: Mapping[str, Any], now: float) -> None:
    """Enter one event of a stream. ``now``: seconds since the trace began."""
    served = reply.served
    if "error" in chunk:
        reply.error = str(chunk["error"])[:300]
        return
    if chunk.get("choices"):
        if served.first_token < 0:
            served.first_token = now
        # Until the server says how many there were: a chunk has one token or more.
        served.produced += 1
    if usage := chunk.get("usage"):
        details = usage.get("prompt_tokens_details") or {}
        served.cached = int(details.get("cached_tokens") or 0)
        served.produced = int(usage["completion_tokens"])


def outcomes(replies: Sequence[Reply]) -> dict[str, int]:
    """How many requests were finished, refused by a limit, failed, and cut."""
    finished = sum(reply.finished for reply in replies)
    refused = sum(reply.status == REFUSED for reply in replies)
    cut = sum(reply.error == CUT for reply in replies)
    return {
        "asked": len(replies),
        "finished": finished,
        "refused": refused,
        "cut": cut,
        "failed": len(replies) - finished - refused - cut,
    }
