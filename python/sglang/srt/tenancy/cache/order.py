"""Whom to evict first: the owner furthest above their fair share, then their oldest leaf.

Where owners are equally far above it, whoever has the oldest leaf gives it.

One order per tier. A single lazy heap over all leaves would be wrong: a leaf becomes more
evictable whenever its owner's share changes. So each owner has a heap of their leaves, and
the owner is chosen first. Cost of one eviction: amortised O(log n).
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from sglang.srt.tenancy.cache.node import PUBLIC, Node
from sglang.srt.tenancy.cache.owner_sizes import OwnerSizes
from sglang.srt.tenancy.cache.quota import Quota

_ROOM_TO_GROW = 1.25


class EvictionOrder:
    """The evictable leaves of one tier, and how many tokens each owner holds on it.

    ``queued``: the bit of ``Node.state`` that says a node has an entry here.
    ``priority``: upstream's eviction strategy; smaller goes first. It may only grow while a
    leaf waits (time of last use, hit count): entries are corrected when they are met, so
    a touch costs nothing.
    ``weights``: owner -> share, 1 for whoever is missing. What is public is entitled to as
    much as all owners together, times its own weight (``PUBLIC``): it serves them all.
    ``quota``: hears of whoever may hold more than they are allowed; None: all may hold all.
    """

    def __init__(
        self,
        queued: int,
        priority: Callable[[Node], Any],
        weights: Mapping[str, float],
        quota: Quota | None = None,
    ):
        self.queued = queued
        self._priority = priority
        self._weights = weights
        self.quota = quota
        self.sizes = OwnerSizes()
        self._present = 0.0  # weights of the owners who hold something, the public aside
        self._leaves: dict[str, list[tuple[Any, Node]]] = {}
        # For each owner with leaves: a size that theirs has not outgrown, and a priority that no
        # leaf of theirs is below. One entry in the heap stands for both; it is made exact when
        # it is met, and only passing a bound costs a push.
        self._bounds: dict[str, tuple[float, Any]] = {}
        self._levels: list[tuple[float, Any, str]] = []

    def resize(self, owner: str, tokens: int) -> None:
        """The owner holds this many tokens more (or fewer)."""
        before = self.sizes.get(owner, 0)
        size = self.sizes[owner] = before + tokens
        if not size:
            del self.sizes[owner]
        if owner and (not before) != (not size):
            weight = self._weights.get(owner, 1.0)
            self._present += weight if size else -weight
        if self.quota is not None and tokens > 0:
            self.quota.watch(owner, size)
        if tokens > 0 and owner in self._bounds:
            bound, oldest = self._bounds[owner]
            if size > bound:
                self._announce(owner, _ROOM_TO_GROW * size, oldest)

    def offer(self, node: Node) -> None:
        """The node, which is not queued, may be evicted from now on."""
        node.state |= self.queued
        owner, priority = node.owner, self._priority(node)
        try:
            leaves = self._leaves[owner]
        except KeyError:
            leaves = self._leaves[owner] = []
        heapq.heappush(leaves, (priority, node))
        if not owner:
            return
        if self.quota is not None:
            self.quota.watch(owner, self.sizes.get(owner, 0))
        if owner not in self._bounds:
            self._announce(owner, _ROOM_TO_GROW * self.sizes.get(owner, 0), priority)
        elif priority < self._bounds[owner][1]:
            self._announce(owner, self._bounds[owner][0], priority)

    def move(self, node: Node, before: str, tokens: int) -> None:
        """The node changed hands: its tokens count for its owner from now on.

        An entry under the one before stays behind and is dropped when it is met.
        """
        if tokens:
            self.resize(before, -tokens)
            self.resize(node.owner, tokens)
        if node.state & self.queued:
            self.offer(node)

    def take(self, is_evictable: Callable[[Node], bool]) -> Iterator[Node]:
        """Leaves to evict, best first; each is taken off the order. Nodes that became something
        else in the meantime are skipped when they are met."""
        while (owner := self._furthest_above()) is not None:
            leaves = self._leaves[owner]
            priority, node = leaves[0]
            if node.owner != owner:
                heapq.heappop(leaves)
                continue
            current = self._priority(node)
            evictable = is_evictable(node)
            if evictable and current != priority:
                heapq.heapreplace(leaves, (current, node))
                continue
            if evictable and owner and priority != self._bounds[owner][1]:
                # Another owner, as far above the share, may have an older one.
                self._announce(owner, self._bounds[owner][0], priority)
                continue
            heapq.heappop(leaves)
            node.state &= ~self.queued
            if evictable:
                yield node

    def take_of(self, owner: str, is_evictable: Callable[[Node], bool]) -> Iterator[Node]:
        """One owner's leaves to evict, best first; each is taken off the order."""
        while leaves := self._leaves.get(owner):
            priority, node = leaves[0]
            evictable = node.owner == owner and is_evictable(node)
            if evictable and (current := self._priority(node)) != priority:
                heapq.heapreplace(leaves, (current, node))
                continue
            heapq.heappop(leaves)
            if node.owner == owner:
                node.state &= ~self.queued
            if evictable:
                yield node

    def _furthest_above(self) -> str | None:
        """The owner with leaves who holds most for their weight."""
        owner = self._furthest_private()
        if not self._leaves.get(PUBLIC):
            return owner
        if owner is None:
            return PUBLIC
        # Both as a multiple of the fair share; private goes first where they are equal.
        private = -self._level(owner, self.sizes.get(owner, 0)) * self._present
        public = self.sizes.get(PUBLIC, 0) / self._weights.get(PUBLIC, 1.0)
        return PUBLIC if public > private else owner

    def _furthest_private(self) -> str | None:
        while self._levels:
            level, oldest, owner = self._levels[0]
            bounds, size = self._bounds.get(owner), self.sizes.get(owner, 0)
            if bounds is None or (level, oldest) != (self._level(owner, bounds[0]), bounds[1]):
                heapq.heappop(self._levels)  # a newer entry stands for the owner
            elif not self._leaves[owner]:
                heapq.heappop(self._levels)
                del self._leaves[owner], self._bounds[owner]
            elif bounds[0] != size:
                self._bounds[owner] = (size, oldest)
                heapq.heapreplace(self._levels, (self._level(owner, size), oldest, owner))
            else:
                return owner
        return None

    def _announce(self, owner: str, bound: float, oldest: Any) -> None:
        self._bounds[owner] = (bound, oldest)
        heapq.heappush(self._levels, (self._level(owner, bound), oldest, owner))
        if len(self._levels) > 2 * len(self._leaves) + 64:
            self._levels = [
                (self._level(o, size), oldest, o) for o, (size, oldest) in self._bounds.items()
            ]
            heapq.heapify(self._levels)

    def _level(self, owner: str, size: float) -> float:
        """Smaller is further above the fair share."""
        return -size / self._weights.get(owner, 1.0)
