"""Sample the server for all who watch the live page of one HTTP process: only while somebody does.

One sample serves them all. A viewer holds nothing but its place: whoever reads slowly gets the
newest sample when it is ready for one, and those between are skipped.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import orjson

from sglang.srt.tenancy.control.messages import Live, Refused
from sglang.srt.tenancy.errors import RequestError
from sglang.srt.tenancy.http.log import logger, where

MOST_VIEWERS = 16  # of one HTTP process
SHORTEST, LONGEST = 0.5, 60.0  # seconds between two frames
_OWNERS, _USERS, _NODES = 24, 24, 2000
_CHANGES = 256
_TREE_SECONDS = 2.5
# Of a scheduler's time, watching takes at most one part in so many.
_SHARE = 100
_SILENCE = 5.0  # seconds after which a viewer is told that the schedulers have not answered

Ask = Callable[[Live], Awaitable[list[dict[str, Any]]]]


@dataclass(slots=True)
class Sample:
    """``head``: a frame's beginning as JSON, an object without its last brace. ``tree``: number of
    the sample that ``trees``, JSON, is from."""

    number: int
    taken: float
    head: bytes
    trees: bytes = b"null"
    tree: int = 0


@dataclass(slots=True, eq=False)
class Viewer:
    """``every``: seconds between two frames, at least. ``due``: when the next one is."""

    every: float
    due: float
    change: int = 0  # number of the last change that it was sent, as this process counts them
    tree: int = 0
    ready: asyncio.Event = field(default_factory=asyncio.Event)


class Sampler:
    """``ask``: the schedulers. ``local``: what this process knows besides. ``now``: monotonic."""

    def __init__(
        self,
        ask: Ask,
        local: Callable[[], dict[str, Any]] = dict,
        *,
        most_viewers: int = MOST_VIEWERS,
        now: Callable[[], float] = time.monotonic,
    ):
        self.samples = 0  # taken so far
        self._ask = ask
        self._local = local
        self._most = most_viewers
        self._now = now
        self._viewers: dict[Viewer, None] = {}
        self._task: asyncio.Task[None] | None = None
        self._hurry = asyncio.Event()
        self._latest: Sample | None = None
        self._tree_due = 0.0
        self._seen: list[int] = []  # by rank, the number of the last change
        self._changes: deque[tuple[int, dict[str, Any]]] = deque(maxlen=_CHANGES)
        self._counted = 0  # changes heard of

    @property
    def viewers(self) -> int:
        return len(self._viewers)

    @property
    def running(self) -> bool:
        return self._task is not None

    @contextmanager
    def viewing(self, every: float) -> Iterator[Viewer]:
        """Be a viewer inside the with statement. Raises RequestError 429 for one too many."""
        if len(self._viewers) >= self._most:
            raise RequestError(
                429,
                "viewers",
                f"viewers: {self._most} watch this process already; close a page and try again",
            )
        viewer = Viewer(every, self._now())
        self._viewers[viewer] = None
        self._begin(viewer)
        try:
            yield viewer
        finally:
            del self._viewers[viewer]
            if not self._viewers:
                self._end()

    async def lines(self, viewer: Viewer) -> AsyncIterator[bytes]:
        """Yield the viewer's frames as lines of JSON; one that says ``waiting`` where the
        schedulers have not answered for a while."""
        while True:
            silence = viewer.every + _SILENCE
            try:
                await asyncio.wait_for(viewer.ready.wait(), silence)
            except asyncio.TimeoutError:
                yield b'{"type":"waiting"}\n'
                continue
            viewer.ready.clear()
            if self._latest is not None:
                yield self._line(viewer, self._latest)

    def _begin(self, viewer: Viewer) -> None:
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run())
        elif self._latest is not None and self._now() - self._latest.taken < SHORTEST:
            self._call(viewer)
        else:
            self._hurry.set()

    def _end(self) -> None:
        """Keep only what says where to go on."""
        if self._task is not None:
            self._task.cancel()
        self._task = self._latest = None
        self._tree_due = 0.0

    async def _run(self) -> None:
        while True:
            started = self._now()
            seconds = 0.0
            try:
                seconds = await self._sample()
            except Refused as error:
                logger.warning("The live page: %s", error)
            except Exception as error:  # noqa: BLE001 - it goes on for those who watch
                logger.error("The live page was not told anything: %s", where(error))
            period = min(viewer.every for viewer in self._viewers)
            self._hurry.clear()
            pause = max(period - (self._now() - started), _SHARE * seconds, 0.05)
            try:
                await asyncio.wait_for(self._hurry.wait(), pause)
            except asyncio.TimeoutError:
                continue
            # Somebody came: soon, but no sooner than anybody may ask for.
            await asyncio.sleep(max(0.0, started + SHORTEST - self._now()))

    async def _sample(self) -> float:
        """Ask once. Returns the seconds that it took the slowest scheduler, without the tree."""
        with_tree = self._now() >= self._tree_due
        asked = Live(self._seen, _OWNERS, _USERS, _NODES if with_tree else 0)
        replicas = await self._ask(asked)
        now = self._now()
        self.samples += 1
        trees = [replica.pop("tree") for replica in replicas]
        seconds = max(replica.pop("seconds") for replica in replicas)
        self._note_changes([replica.pop("changes") for replica in replicas])
        frame = {
            "type": "frame",
            "sample": self.samples,
            "time": time.time(),
            "process": {**self._local(), "viewers": len(self._viewers)},
            "replicas": replicas,
        }
        sample = Sample(self.samples, now, orjson.dumps(frame)[:-1])
        before = self._latest
        if with_tree:
            self._tree_due = now + max(_TREE_SECONDS, _SHARE * seconds)
            sample.trees, sample.tree = orjson.dumps(trees), self.samples
            seconds = 0.0  # that was the tree, for the most part
        elif before is not None:
            sample.trees, sample.tree = before.trees, before.tree
        self._latest = sample
        for viewer in self._viewers:
            if now >= viewer.due - 0.02:  # timers are not exact
                self._call(viewer)
        return seconds

    def _call(self, viewer: Viewer) -> None:
        viewer.due = self._now() + viewer.every
        viewer.ready.set()

    def _note_changes(self, by_replica: list[list[dict[str, Any]]]) -> None:
        """Keep the changes, with the time where it is known: the schedulers look at no clock, and
        what happened before anybody watched may be old."""
        at = None if not self._seen or self._latest is None else time.time()
        self._seen += [0] * (len(by_replica) - len(self._seen))
        for replica, changes in enumerate(by_replica):
            for change in changes:
                self._seen[replica] = change["number"]
                self._counted += 1
                told = {**change, "replica": replica, "time": at}
                self._changes.append((self._counted, told))

    def _line(self, viewer: Viewer, sample: Sample) -> bytes:
        news = [change for number, change in self._changes if number > viewer.change]
        viewer.change = self._counted
        line = sample.head + b',"changes":' + orjson.dumps(news)
        if sample.tree > viewer.tree:
            viewer.tree = sample.tree
            line += b',"trees":' + sample.trees
        return line + b"}\n"
