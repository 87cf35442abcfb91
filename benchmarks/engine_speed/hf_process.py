"""The process in which Hugging Face's `generate` runs, seen from here."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psutil

PROGRAM = Path(__file__).with_name("hf_generate.py")
LINE_BYTES = 1 << 22
LOG_TAIL = 2_000


class GeneratorEnded(RuntimeError):
    """The process ended, or said something else than JSON; the message has the end of its log."""


class HfProcess:
    """Does one job after the other, in the order of the calls."""

    def __init__(self, process: asyncio.subprocess.Process, log: Path) -> None:
        self._process = process
        self._log = log
        self._turn = asyncio.Lock()
        self.facts: Mapping[str, Any] = {}

    async def started(self) -> None:
        """Wait until the model is loaded. Raises GeneratorEnded."""
        self.facts = await self._heard()

    async def steps(
        self, prompts: Sequence[Sequence[int]], output: int, keep: str | None = None
    ) -> AsyncIterator[Sequence[int]]:
        """A token of each prompt, step by step. ``keep``: under which name the cache is kept.

        Raises GeneratorEnded.
        """
        job = {"prompts": [list(prompt) for prompt in prompts], "output": output}
        async with self._turn:
            await self._say(job if keep is None else job | {"keep": keep})
            while "ids" in (heard := await self._heard()):
                yield heard["ids"]

    async def answer(self, prompt: Sequence[int], output: int) -> list[int]:
        """The whole answer to one prompt. Raises GeneratorEnded."""
        return [ids[0] async for ids in self.steps([prompt], output)]

    async def margin(self, tokens: Sequence[int]) -> float:
        """By how much the best next token's logit is above the second's. Raises GeneratorEnded."""
        return float((await self._asked({"margin": list(tokens)}))["margin"])

    async def forget(self) -> None:
        """Drop all kept caches. Raises GeneratorEnded."""
        await self._asked({"forget": True})

    def processor_seconds(self) -> float:
        """What it has computed so far."""
        times = psutil.Process(self._process.pid).cpu_times()
        return float(times.user + times.system)

    async def _asked(self, job: Mapping[str, Any]) -> Mapping[str, Any]:
        async with self._turn:
            await self._say(job)
            return await self._heard()

    async def _say(self, job: Mapping[str, Any]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(job).encode() + b"\n")
        await self._process.stdin.drain()

    async def _heard(self) -> Mapping[str, Any]:
        assert self._process.stdout is not None
        line = await self._process.stdout.readline()
        try:
            return dict(json.loads(line))
        except ValueError as problem:
            log = self._log.read_text(errors="replace")[-LOG_TAIL:]
            raise GeneratorEnded(
                f"{PROGRAM.name} wrote {line!r}; its log ends:\n{log}"
            ) from problem


@asynccontextmanager
async def running(model: Path, threads: int) -> AsyncIterator[HfProcess]:
    """A process that has loaded the model, inside the with statement. Raises GeneratorEnded."""
    with tempfile.TemporaryDirectory(prefix="hf-") as folder:
        log = Path(folder) / "log"
        with log.open("wb") as errors:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, str(PROGRAM), str(model), "--threads", str(threads)),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=errors,
                env={**os.environ, "OMP_NUM_THREADS": str(threads)},
                limit=LINE_BYTES,
            )
        hf = HfProcess(process, log)
        try:
            await hf.started()
            yield hf
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()
