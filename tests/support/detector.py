"""A detector without a server: its process, its queue, and what it said."""

from __future__ import annotations

import asyncio
from array import array
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from sglang.srt.tenancy.detect import wire
from sglang.srt.tenancy.detect.pipeline import AsksModel, Limits, Pipeline, Prompt

BYTES = [bytes([value]) for value in range(256)]
SECONDS = 60.0
LIMITS = Limits(first_pause=0.01, batch_seconds=20.0)

Found = tuple[int, int | None]


class Delivered:
    """What was said of which text."""

    def __init__(self) -> None:
        self.results: dict[str, Found] = {}

    def prompt(self, text: str) -> Prompt:
        async def deliver(harmless: int, sensitive: int | None) -> None:
            self.results[text] = (harmless, sensitive)

        return Prompt(array("q", list(text.encode())), deliver)


async def until(condition: Callable[[], object]) -> None:
    async def poll() -> None:
        while not condition():
            await asyncio.sleep(0.01)

    await asyncio.wait_for(poll(), SECONDS)


@asynccontextmanager
async def running(
    judge: AsksModel | None = None, limits: Limits = LIMITS, model: str | None = None
) -> AsyncIterator[Pipeline]:
    pipeline = Pipeline(wire.Setup(BYTES, model, excerpts=judge is not None), judge, limits)
    pipeline.start()
    try:
        yield pipeline
    finally:
        await pipeline.stop()
