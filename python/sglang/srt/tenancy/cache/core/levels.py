"""Find the owner who holds most for their weight."""

from __future__ import annotations

import heapq
from collections.abc import Callable

_ROOM_TO_GROW = 1.25


class Levels:
    """Owners by level, the highest first.

    ``level``: what an owner's level is now. It is asked for when an owner is met, so only one
    that has grown needs to be told of, and passing a bound costs a push. One that has shrunk,
    by giving something or by time, is met in its old place and put in its new one.
    """

    def __init__(self, level: Callable[[str], float]):
        self._level = level
        # Owner -> a level that theirs has not outgrown, negated: the number in the heap.
        self._bounds: dict[str, float] = {}
        self._heap: list[tuple[float, str]] = []  # some are out of date

    def add(self, owner: str) -> None:
        if owner not in self._bounds:
            self._push(owner, self._level(owner))

    def discard(self, owner: str) -> None:
        self._bounds.pop(owner, None)

    def grow(self, owner: str, level: float) -> None:
        """The owner, if it is among these, may be at a level as high as that now."""
        bound = self._bounds.get(owner)
        if bound is not None and level > -bound:
            self._push(owner, level)

    def top(self) -> tuple[float, str] | None:
        """The highest level, and who is there; of several, whose name is first."""
        while self._heap:
            bound, owner = self._heap[0]
            if self._bounds.get(owner) != bound:
                heapq.heappop(self._heap)
                continue
            level = self._level(owner)
            if level == -bound:
                return level, owner
            bound = self._bounds[owner] = -level
            heapq.heapreplace(self._heap, (bound, owner))
        return None

    def clear(self) -> None:
        self._bounds.clear()
        self._heap.clear()

    def rebuild(self) -> None:
        """Every level may be another one now."""
        self._bounds = {owner: -self._level(owner) for owner in self._bounds}
        self._heap = [(bound, owner) for owner, bound in self._bounds.items()]
        heapq.heapify(self._heap)

    def _push(self, owner: str, level: float) -> None:
        bound = self._bounds[owner] = -_ROOM_TO_GROW * level
        heapq.heappush(self._heap, (bound, owner))
        if 2 * len(self._heap) > 3 * len(self._bounds) + 32:
            self.rebuild()
