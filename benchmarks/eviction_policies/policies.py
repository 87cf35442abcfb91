"""Other ways to say which leaf goes, each on the real tree in place of its own order.

All but upstream's look at every leaf for each eviction: they are for comparing what is found, not
what it costs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

from sglang.srt.tenancy.cache.core.node import PUBLIC, Node
from sglang.srt.tenancy.cache.core.segments import Segments
from sglang.srt.tenancy.cache.core.window import EpochCounter

PROTECTED_PART = 0.8  # of a tier, in segmented LRU
FLOOR = 1 / 8  # of a tier, for what is on probation


class Policy:
    """The leaves of one tier, and what each owner holds there. ``choose`` says which one goes."""

    def __init__(
        self,
        queued: int,
        priority: Callable[[Node], Any],
        evictable: Collection[Node],
        capacity: int,
        clock: EpochCounter,
        weights: Mapping[str, float],
        shares: object = None,
    ):
        self.queued = queued
        self.evictable = evictable
        self.capacity = capacity
        self.clock = clock
        self.weights = weights
        self.segments = Segments(clock, weights)
        self.sizes = self.segments.sizes
        self.quota = None
        self.waiting: dict[Node, None] = {}

    def choose(self, leaves: list[Node]) -> Node:
        """The oldest, whosesoever it is: upstream's LRU."""
        return oldest(leaves)

    # What the tree tells, and asks

    def resize(self, node: Node, tokens: int) -> None:
        self._age()
        self.segments.resize(node, tokens)

    def move(self, node: Node, before: str, tokens: int) -> None:
        self._age()
        if tokens:
            self.segments.move(node, before, tokens)

    def ask_again(self, node: Node, tokens: int) -> None:
        self._age()
        self.segments.ask_again(node, tokens)

    def come_back(self, owner: str) -> None:
        self._age()
        self.segments.come_back(owner)

    def offer(self, node: Node) -> None:
        node.state |= self.queued
        self.waiting[node] = None

    def advance(self, node: Node) -> None:
        pass

    def take(self) -> Iterator[Node]:
        while True:
            self._age()
            for node in [node for node in self.waiting if node not in self.evictable]:
                self._remove(node)
            if not self.waiting:
                return
            node = self.choose(list(self.waiting))
            self._remove(node)
            yield node

    def _remove(self, node: Node) -> None:
        del self.waiting[node]
        node.state &= ~self.queued

    def _age(self) -> None:
        if self.segments.epoch != self.clock.epoch:
            self.segments.age()

    # What policies have in common

    def split(self, leaves: list[Node]) -> tuple[list[Node], list[Node]]:
        """Those on probation, and those that are protected."""
        protected = [leaf for leaf in leaves if self.segments.is_protected(leaf)]
        return [leaf for leaf in leaves if not self.segments.is_protected(leaf)], protected

    def furthest(self, leaves: list[Node], held: Callable[[str], int]) -> Node:
        """The oldest leaf of the owner who holds most for their weight."""
        everybody, _ = self.segments.holders

        def level(owner: str) -> float:
            together = (everybody or 1.0) if owner == PUBLIC else 1.0
            return held(owner) / self.weights.get(owner, 1.0) / together

        return min(leaves, key=lambda leaf: (-level(leaf.owner), leaf.last_access_time))


class Held(Policy):
    """Fair share of everything held: what this cache did at first."""

    def choose(self, leaves: list[Node]) -> Node:
        return self.furthest(leaves, self.sizes.__getitem__)


class Slru(Policy):
    """Segmented LRU over all users (Karedla, Love and Wherry, 1994)."""

    def choose(self, leaves: list[Node]) -> Node:
        probation, _ = self.split(leaves)
        protected = sum(self.segments.protected(owner) for owner in self.sizes)
        if not probation or protected > PROTECTED_PART * self.capacity:
            return oldest(leaves)
        return oldest(probation)


class SlruByOwner(Policy):
    """On probation the owner furthest above gives first, down to a floor; then, of what is
    protected, the owner furthest above."""

    def choose(self, leaves: list[Node]) -> Node:
        probation, protected = self.split(leaves)
        waiting = sum(self.segments.probation(owner) for owner in self.sizes)
        if probation and (not protected or waiting > FLOOR * self.capacity):
            return self.furthest(probation, self.segments.probation)
        return self.furthest(protected or leaves, self.segments.protected)


class TinyLfuByOwner(Policy):
    """The oldest leaf of the newest-come owners' window, unless it was asked for more often than
    the oldest of the rest (W-TinyLFU: Einziger, Friedman and Manes, "TinyLFU: A Highly Efficient
    Cache Admission Policy", 2017); owners by what they hold. Counts are exact, and halved each
    epoch, where theirs is a sketch."""

    window = 1 / 8

    def __init__(self, *args: Any):
        super().__init__(*args)
        self.asked: Counter[int] = Counter()  # by the node's first token

    def resize(self, node: Node, tokens: int) -> None:
        super().resize(node, tokens)
        if tokens > 0:
            self.asked[node.key.token_ids[0]] += 1

    def ask_again(self, node: Node, tokens: int) -> None:
        super().ask_again(node, tokens)
        self.asked[node.key.token_ids[0]] += 1

    def _age(self) -> None:
        if self.segments.epoch != self.clock.epoch:
            self.asked = Counter({k: n // 2 for k, n in self.asked.items() if n > 1})
        super()._age()

    def choose(self, leaves: list[Node]) -> Node:
        probation, protected = self.split(leaves)
        waiting = sum(self.segments.probation(owner) for owner in self.sizes)
        if not protected or (probation and waiting <= self.window * self.capacity):
            return self.furthest(protected or leaves, self.sizes.__getitem__)
        if not probation:
            return self.furthest(leaves, self.sizes.__getitem__)
        newcomer = oldest(probation)
        victim = self.furthest(protected, self.segments.protected)
        times = {leaf: self.asked[leaf.key.token_ids[0]] for leaf in (newcomer, victim)}
        return newcomer if times[newcomer] <= times[victim] else victim


def oldest(leaves: list[Node]) -> Node:
    return min(leaves, key=lambda leaf: leaf.last_access_time)


UPSTREAM, CHOSEN = "LRU (upstream)", "chosen"
POLICIES: dict[str, type[Policy] | None] = {
    UPSTREAM: None,
    "held": Held,
    "SLRU": Slru,
    "SLRU by owner": SlruByOwner,
    "TinyLFU by owner": TinyLfuByOwner,
    CHOSEN: None,
}
