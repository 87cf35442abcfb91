"""Queue prompts, have them scanned, deliver the results: no request ever waits for the detector.

Everything that can go wrong ends on the private side: a prompt that is dropped, a process that
dies, a judge that does not answer give no scan result, and without one nothing becomes public.
"""

from __future__ import annotations

import asyncio
import logging
import time
from array import array
from collections import Counter, deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Protocol

from sglang.srt.tenancy.detect import wire
from sglang.srt.tenancy.detect.process import DetectorFailed, DetectorProcess

logger = logging.getLogger("sglang.srt.entrypoints.http_server")

Deliver = Callable[[int, "int | None"], Awaitable[None]]


class AsksModel(Protocol):
    """See ``judge.Judge``."""

    async def is_sensitive(self, excerpt: str) -> bool | None: ...


@dataclass(frozen=True)
class Prompt:
    """``deliver(harmless, sensitive)``: tells the tree, once it holds the tokens."""

    tokens: array[int]
    deliver: Deliver
    user: str = ""
    offered: float = field(default_factory=time.monotonic)


@dataclass(frozen=True)
class Limits:
    """Bounds of the queues, and patience in seconds."""

    prompts: int = 1024
    tokens: int = 2**22
    batch_prompts: int = 32
    batch_tokens: int = 2**18
    open_prompts: int = 128
    start_seconds: float = 300.0
    batch_seconds: float = 60.0
    first_pause: float = 0.5
    longest_pause: float = 60.0


class Pipeline:
    """One HTTP process's detector: a queue, a process that scans, and perhaps a judge.

    ``observe``: is told the seconds from each prompt's arrival to its result.
    """

    def __init__(
        self,
        setup: wire.Setup,
        judge: AsksModel | None = None,
        limits: Limits = Limits(),
        observe: Callable[[float], None] = lambda seconds: None,
    ):
        self._observe = observe
        self.counts: Counter[str] = Counter()
        self.kinds: Counter[str] = Counter()
        self._setup = setup
        self._judge = judge
        self._limits = limits
        self._queue: deque[Prompt] = deque()
        self._tokens = 0
        self._open: deque[tuple[Prompt, wire.Result]] = deque()
        self._arrived, self._opened = asyncio.Event(), asyncio.Event()
        self._process: DetectorProcess | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        """Run on this event loop, until ``stop``."""
        self._spawn(self._scan_prompts())
        if self._judge is not None:
            self._spawn(self._settle_open(self._judge))

    async def stop(self) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def stats(self) -> dict[str, object]:
        """Count what was done so far; numbers only."""
        return {
            "running": self._process is not None,
            "pid": self._process.pid if self._process is not None else None,
            "queued": len(self._queue),
            "queued_tokens": self._tokens,
            "open": len(self._open),
            "counts": dict(self.counts),
            "kinds": dict(self.kinds),
        }

    def offer(self, prompt: Prompt) -> None:
        """Have a prompt scanned, some time. When there are too many, the oldest is given up."""
        self.counts["offered"] += 1
        self._queue.append(prompt)
        self._tokens += len(prompt.tokens)
        limits = self._limits
        while len(self._queue) > limits.prompts or self._tokens > limits.tokens:
            self._tokens -= len(self._queue.popleft().tokens)
            self.counts["dropped"] += 1
        self._arrived.set()

    def forget(self, user: str) -> int:
        """Drop a user's prompts that wait to be scanned. Returns how many.

        Of those that are being scanned only the result is left, which inserts nothing.
        """
        before = len(self._queue) + len(self._open)
        self._queue = deque(prompt for prompt in self._queue if prompt.user != user)
        self._open = deque(entry for entry in self._open if entry[0].user != user)
        self._tokens = sum(len(prompt.tokens) for prompt in self._queue)
        forgotten = before - len(self._queue) - len(self._open)
        self.counts["forgotten"] += forgotten
        return forgotten

    # First and second tier

    async def _scan_prompts(self) -> None:
        pause = self._limits.first_pause
        while True:
            try:
                self._process = await DetectorProcess.start(self._setup, self._limits.start_seconds)
                while True:
                    await self._scan_batch(self._process)
                    pause = self._limits.first_pause
            except DetectorFailed as failure:
                self.counts["crashes"] += 1
                logger.error(
                    "The tenant detector failed: %s. Nothing becomes public until it runs again, "
                    "in %.1f s.",
                    failure,
                    pause,
                )
            finally:
                if self._process is not None:
                    process, self._process = self._process, None
                    await process.end()
            await asyncio.sleep(pause)
            pause = min(2 * pause, self._limits.longest_pause)

    async def _scan_batch(self, process: DetectorProcess) -> None:
        await process.outlive(self._arrived.wait())
        batch = self._take()
        if not batch:  # it was forgotten
            return
        try:
            results = await process.scan(
                [prompt.tokens.tobytes() for prompt in batch], self._limits.batch_seconds
            )
        except DetectorFailed:
            # One of them may be what it failed on: not again.
            self.counts["lost"] += len(batch)
            raise
        for prompt, result in zip(batch, results, strict=True):
            self._conclude(prompt, result)

    def _take(self) -> list[Prompt]:
        batch: list[Prompt] = []
        tokens = 0
        while self._queue and len(batch) < self._limits.batch_prompts:
            tokens += len(self._queue[0].tokens)
            if batch and tokens > self._limits.batch_tokens:
                break
            batch.append(self._queue.popleft())
            self._tokens -= len(batch[-1].tokens)
        if not self._queue:
            self._arrived.clear()
        return batch

    def _conclude(self, prompt: Prompt, result: wire.Result) -> None:
        if not result.known:
            self.counts["without_text"] += 1
            return
        self.counts["judged"] += 1  # published under this name
        self.counts["characters_read"] += result.read
        self.kinds.update(result.kinds)
        if result.hints and self._judge is not None:
            self._open.append((prompt, result))
            if len(self._open) > self._limits.open_prompts:
                # Without the model's word: what is in front of the hints is still harmless.
                self.counts["open_dropped"] += 1
                self._send(*self._open.popleft())
            self._opened.set()
            return
        self._send(prompt, result)

    def _send(self, prompt: Prompt, result: wire.Result) -> None:
        self._deliver(prompt, result.harmless, result.sensitive)

    def _deliver(self, prompt: Prompt, harmless: int, sensitive: int | None) -> None:
        self.counts["sensitive" if sensitive is not None else "not_sensitive"] += 1
        self._observe(time.monotonic() - prompt.offered)
        self._spawn(prompt.deliver(harmless, sensitive))

    # Third tier

    async def _settle_open(self, judge: AsksModel) -> None:
        while True:
            await self._opened.wait()
            if not self._open:
                self._opened.clear()
                continue
            prompt, result = self._open.popleft()
            try:
                harmless, sensitive = await self._settled(judge, result)
            except Exception as error:  # noqa: BLE001 - whatever the engine raises
                self.counts["judge_failures"] += 1
                logger.error("The tenant detector's judge failed: %s", type(error).__name__)
                harmless, sensitive = result.harmless, result.sensitive
            self._deliver(prompt, harmless, sensitive)

    async def _settled(self, judge: AsksModel, result: wire.Result) -> tuple[int, int | None]:
        for hint in result.hints:
            answer = await judge.is_sensitive(hint.excerpt)
            self.counts[f"judge_{ {True: 'yes', False: 'no', None: 'unclear'}[answer] }"] += 1
            if answer is None:
                return hint.start, result.sensitive
            if answer:
                return hint.start, hint.start
        return result.possible, result.sensitive

    def _spawn(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self.counts["errors"] += 1
            logger.error("The tenant detector: %s", type(task.exception()).__name__)
