"""What is compared: each answers the requests of a workload, and says when each token came."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from server_process import ServerProcess
from serving.client import Client
from workloads.request import Request

from engine_speed.hf_process import HfProcess
from engine_speed.load import CONVERSATION, CROWD, LOADS, Load

HF, HF_KEPT, HF_PADDED = "hf generate", "hf, own cache kept", "hf, padded batch"


@dataclass(frozen=True)
class Reply:
    """``ttft``: seconds from the moment the client asked, or would have, to the first token.
    ``cached``: tokens of the prompt that were found in a cache; None where nobody counts."""

    ttft: float
    output: Sequence[int]
    cached: int | None = None


class Engine(Protocol):
    """``loads``: the names of the workloads that it plays."""

    name: str
    loads: Sequence[str]

    async def forget(self) -> None:
        """Empty its cache."""

    async def replies(self, load: Load) -> list[Reply]:
        """Answer all requests, in their order."""

    def processor_seconds(self) -> float:
        """What its processes have computed so far."""


class ServerEngine:
    """A server, asked over HTTP. ``named``: requests say whose they are."""

    def __init__(
        self,
        name: str,
        client: Client,
        process: ServerProcess,
        *,
        named: bool,
        loads: Sequence[str] = LOADS,
        prepare: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """``prepare``: done each time after the cache was emptied."""
        self.name = name
        self.loads = loads
        self._client = client
        self._process = process
        self._named = named
        self._prepare = prepare

    async def forget(self) -> None:
        await self._client.flush()
        if self._prepare is not None:
            await self._prepare()

    async def replies(self, load: Load) -> list[Reply]:
        if load.at_once:
            return list(await asyncio.gather(*map(self._reply, load.requests)))
        return [await self._reply(request) for request in load.requests]

    def processor_seconds(self) -> float:
        return self._process.processor_seconds()

    async def _reply(self, request: Request) -> Reply:
        user = request.user if self._named else None
        answer = await self._client.ask(request.prompt, user, output=request.output)
        return Reply(answer.ttft, answer.output, answer.cached)


class HfEngine:
    """`generate` with a streamer: one request after the other, whoever waits."""

    name = HF
    loads: Sequence[str] = LOADS

    def __init__(self, hf: HfProcess) -> None:
        self._hf = hf

    async def forget(self) -> None:
        await self._hf.forget()

    async def replies(self, load: Load) -> list[Reply]:
        started = time.perf_counter()
        replies = []
        for request in load.requests:
            asked = started if load.at_once else time.perf_counter()
            replies.append((await self._batch([request], asked))[0])
        return replies

    def processor_seconds(self) -> float:
        return self._hf.processor_seconds()

    def _keep(self, requests: Sequence[Request]) -> str | None:
        return None

    async def _batch(self, requests: Sequence[Request], asked: float) -> list[Reply]:
        """The answers to prompts that are computed together."""
        first, steps = 0.0, []
        prompts = [request.prompt for request in requests]
        async for ids in self._hf.steps(prompts, requests[0].output, self._keep(requests)):
            first = first or time.perf_counter()
            steps.append(ids)
        return [Reply(first - asked, output) for output in zip(*steps, strict=True)]


class HfKept(HfEngine):
    """The program keeps the cache of each conversation by itself."""

    name = HF_KEPT
    loads: Sequence[str] = (CONVERSATION,)

    def _keep(self, requests: Sequence[Request]) -> str | None:
        return requests[0].user


class HfPadded(HfEngine):
    """All prompts in one batch, padded to the longest; nobody may come later."""

    name = HF_PADDED
    loads: Sequence[str] = (CROWD,)

    async def replies(self, load: Load) -> list[Reply]:
        return await self._batch(load.requests, time.perf_counter())
