"""Find the least of many things whose keys change."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Any, Generic, Protocol, TypeVar

_SPARE = 16  # outdated records that may always stay


class Ranked(Protocol):
    """A thing of one heap. ``record``: the heap's own; None where the heap has none."""

    record: tuple[Any, int, Any] | None


_Thing = TypeVar("_Thing", bound=Ranked)


class LazyHeap(Generic[_Thing]):
    """Keeps a record per thing; ``key`` tells what holds now.

    A key that grew is noticed when its thing would be the first; one that became less has to be
    told by ``push``, and a thing that left by ``remove``.
    """

    def __init__(self, key: Callable[[_Thing], Any]):
        self._key = key
        self._heap: list[tuple[Any, int, _Thing]] = []
        self._number = 0  # things with equal keys: who came first
        self._things = 0

    def __len__(self) -> int:
        return self._things

    def push(self, thing: _Thing) -> None:
        """Take a thing in, or take note that its key may be less than it was."""
        key = self._key(thing)
        if thing.record is None:
            self._things += 1
        elif key >= thing.record[0]:
            return
        thing.record = self._record(key, thing)
        heapq.heappush(self._heap, thing.record)
        self._tidy()

    def remove(self, thing: _Thing) -> None:
        """Let go of a thing; nothing of it stays for long."""
        if thing.record is not None:
            thing.record = None
            self._things -= 1
            self._tidy()

    def first(self) -> _Thing | None:
        """Return the thing with the least key."""
        heap = self._heap
        while heap:
            key, _, thing = heap[0]
            if thing.record is not heap[0]:
                heapq.heappop(heap)
                continue
            now = self._key(thing)
            if now == key:
                return thing
            thing.record = self._record(now, thing)
            heapq.heapreplace(heap, thing.record)
        return None

    def _record(self, key: Any, thing: _Thing) -> tuple[Any, int, _Thing]:
        self._number += 1
        return key, self._number, thing

    def _tidy(self) -> None:
        """Throw outdated records out once they are most of the heap."""
        if not self._things:
            self._heap.clear()
        elif len(self._heap) > 2 * self._things + _SPARE:
            self._heap = [record for record in self._heap if record[2].record is record]
            heapq.heapify(self._heap)
