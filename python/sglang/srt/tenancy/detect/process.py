"""The server's handle on its detector process."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from sglang.srt.tenancy.detect import wire

SCRIPT = Path(__file__).with_name("worker.py")


class DetectorFailed(RuntimeError):
    """The detector process ended, hung, or said what it should not. Says nothing of texts."""


class DetectorProcess:
    """One detector process. Any failure ends it: make another."""

    def __init__(self, process: asyncio.subprocess.Process):
        self._process = process
        self._ended = asyncio.ensure_future(process.wait())

    @classmethod
    async def start(cls, setup: wire.Setup, seconds: float) -> DetectorProcess:
        """Start it and wait until it is ready. Raises DetectorFailed."""
        try:
            started = cls(
                await asyncio.create_subprocess_exec(
                    sys.executable,
                    str(SCRIPT),
                    stdin=asyncio.subprocess.PIPE,
                    stdout=asyncio.subprocess.PIPE,
                )
            )
        except OSError as error:
            raise DetectorFailed(f"it does not start: {error}") from None
        try:
            if not isinstance(await started._ask(setup, seconds), wire.Ready):
                raise DetectorFailed("it gave an answer that was not asked for")
        except BaseException:
            await started.end()
            raise
        return started

    @property
    def pid(self) -> int:
        return self._process.pid

    async def outlive(self, waiting: Awaitable[Any]) -> None:
        """Wait for something else. Raises DetectorFailed where the process ends before."""
        other = asyncio.ensure_future(waiting)
        try:
            await asyncio.wait({other, self._ended}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            other.cancel()
        if self._ended.done():
            raise DetectorFailed(f"it ended with code {self._process.returncode}")

    async def scan(self, prompts: Sequence[bytes], seconds: float) -> list[wire.Result]:
        """Scan prompts; a result for each, in order. Raises DetectorFailed."""
        reply = await self._ask(wire.Batch(list(prompts)), seconds)
        if not isinstance(reply, wire.Results) or len(reply.results) != len(prompts):
            raise DetectorFailed("it gave an answer that was not asked for")
        return reply.results

    async def _ask(
        self, question: wire.Setup | wire.Batch, seconds: float
    ) -> wire.Ready | wire.Results:
        try:
            return await asyncio.wait_for(self._exchange(question), seconds)
        except asyncio.TimeoutError:
            raise DetectorFailed(f"no answer in {seconds:.0f} s") from None
        # An event loop's RuntimeError: the pipe was closed meanwhile.
        except (OSError, EOFError, RuntimeError, msgspec.DecodeError) as error:
            raise DetectorFailed(f"it ended ({type(error).__name__})") from None

    async def _exchange(self, question: wire.Setup | wire.Batch) -> wire.Ready | wire.Results:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(wire.frame(question))
        await self._process.stdin.drain()
        head = await self._process.stdout.readexactly(wire.LENGTH)
        body = await self._process.stdout.readexactly(int.from_bytes(head, "big"))
        return wire.answer(body)

    async def end(self) -> None:
        with suppress(ProcessLookupError):
            self._process.kill()
        await self._ended
