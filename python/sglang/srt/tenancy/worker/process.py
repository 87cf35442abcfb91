"""The server's handle on a worker process."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable
from contextlib import suppress
from pathlib import Path
from typing import Any

from sglang.srt.tenancy.worker.frames import LENGTH, frame

SCRIPT = Path(__file__).with_name("main.py")


class WorkerFailed(RuntimeError):
    """The worker process ended, hung, or said what it should not. Says nothing of its input."""


class WorkerProcess:
    """One worker process. Any failure ends its use: call ``end``, and start another."""

    def __init__(self, process: asyncio.subprocess.Process):
        self._process = process
        self._ended = asyncio.ensure_future(process.wait())

    @classmethod
    async def start(cls, module: str, setup: bytes, seconds: float) -> WorkerProcess:
        """Start a process, and wait until it answers its first message.

        ``module``: below ``sglang.srt.tenancy``; has what ``main`` runs. Raises WorkerFailed.
        """
        try:
            started = cls(
                await asyncio.create_subprocess_exec(
                    sys.executable,
                    str(SCRIPT),
                    module,
                    stdin=asyncio.subprocess.PIPE,
                    stdout=asyncio.subprocess.PIPE,
                )
            )
        except OSError as error:
            raise WorkerFailed(f"it does not start: {error}") from None
        try:
            await started.ask(setup, seconds)
        except BaseException:
            await started.end()
            raise
        return started

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def has_ended(self) -> bool:
        return self._ended.done()

    async def outlive(self, waiting: Awaitable[Any]) -> None:
        """Wait for something else. Raises WorkerFailed where the process ends before."""
        other = asyncio.ensure_future(waiting)
        try:
            await asyncio.wait({other, self._ended}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            other.cancel()
        if self._ended.done():
            raise WorkerFailed(f"it ended with code {self._process.returncode}")

    async def ask(self, question: bytes, seconds: float) -> bytes:
        """Send a message and wait for its answer. Raises WorkerFailed."""
        try:
            return await asyncio.wait_for(self._exchange(question), seconds)
        except asyncio.TimeoutError:
            raise WorkerFailed(f"no answer in {seconds:.0f} s") from None
        # An event loop's RuntimeError: the pipe was closed meanwhile.
        except (OSError, EOFError, RuntimeError) as error:
            raise WorkerFailed(f"it ended ({type(error).__name__})") from None

    async def _exchange(self, question: bytes) -> bytes:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(frame(question))
        await self._process.stdin.drain()
        head = await self._process.stdout.readexactly(LENGTH)
        return await self._process.stdout.readexactly(int.from_bytes(head, "big"))

    async def end(self) -> None:
        with suppress(ProcessLookupError):
            self._process.kill()
        await self._ended
