"""The server's handle on its detector process."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from typing import Any

import msgspec

from sglang.srt.tenancy.detect import wire
from sglang.srt.tenancy.worker.process import WorkerFailed, WorkerProcess

DetectorFailed = WorkerFailed


class DetectorProcess:
    """One detector process. Any failure ends it: make another."""

    def __init__(self, worker: WorkerProcess):
        self._worker = worker

    @classmethod
    async def start(cls, setup: wire.Setup, seconds: float) -> DetectorProcess:
        """Start it and wait until it is ready. Raises DetectorFailed."""
        return cls(await WorkerProcess.start("detect.worker", wire.encode(setup), seconds))

    @property
    def pid(self) -> int:
        return self._worker.pid

    async def outlive(self, waiting: Awaitable[Any]) -> None:
        """Wait for something else. Raises DetectorFailed where the process ends before."""
        await self._worker.outlive(waiting)

    async def scan(self, prompts: Sequence[bytes], seconds: float) -> list[wire.Result]:
        """Scan prompts; a result for each, in order. Raises DetectorFailed."""
        body = await self._worker.ask(wire.encode(wire.Batch(list(prompts))), seconds)
        try:
            reply = wire.answer(body)
        except msgspec.DecodeError as error:
            raise DetectorFailed(f"its answer cannot be read ({type(error).__name__})") from None
        if not isinstance(reply, wire.Results) or len(reply.results) != len(prompts):
            raise DetectorFailed("it gave an answer that was not asked for")
        return reply.results

    async def end(self) -> None:
        await self._worker.end()
