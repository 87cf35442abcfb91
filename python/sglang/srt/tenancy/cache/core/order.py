"""Decide whose leaf is evicted next on one tier.

The oldest leaf goes, as upstream's policy says, whosesoever it is, but for three rules:

1. Whoever holds too much *on probation* (``segments.py``) gives first: more than their fair share
   among all who hold something, and more than an eighth of the tier.
2. A leaf has a *claim* if it is protected, and its owner has no more protected than their fair
   share among all who came twice in the window. For it gives whoever has most protected for their
   weight, if that is more than the leaf's owner has, and more than an eighth of the tier.
3. Below half of that share, what is protected stays while there is anything else.

With one owner the order is upstream's. What is public is an owner, too, entitled to as much as
all others together. ``benchmarks/eviction.py`` measures this against other policies.

Each owner has a heap of leaves for each segment, a heap of their heads says which leaf is the
oldest, two heaps of owners who holds most. Nothing moves on a touch: entries are corrected when
they are met. One eviction costs amortised O(log n).

The rules and the heaps are one file, longer than others: each choice corrects the heads it meets,
and each correction asks the rules again.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

from sglang.srt.tenancy.cache.core.levels import Levels
from sglang.srt.tenancy.cache.core.node import PUBLIC, Node
from sglang.srt.tenancy.cache.core.quota import CacheShares, Quota
from sglang.srt.tenancy.cache.core.segments import Segments
from sglang.srt.tenancy.cache.core.window import EpochCounter

_SMALL = 1 / 8  # of the tier: nobody holds too much below that, however many owners there are
_KEPT = 1 / 2  # of a fair share: protected tokens below that do not go for what is not
_STALE = 1 / 8  # how much the fair share may have shrunk before claims are looked at anew
_PROBATION, _PROTECTED = 0, 1

_Head = tuple[Any, str, int]  # the priority of a first leaf, its owner, its segment


class EvictionOrder:
    """The evictable leaves of one tier, and how many tokens each owner holds on it.

    ``queued``: the bit of ``Node.state`` that says a node has an entry here.
    ``priority``: upstream's eviction strategy; smaller goes first. It may only grow while a
    leaf waits (time of last use, hit count); where it falls, ``advance`` must be told.
    ``leaves``: the nodes that may be evicted now, as the tree keeps them.
    ``capacity``: tokens of the tier.
    ``weights``: owner -> weight, 1 for whoever is missing; that of ``PUBLIC`` is a multiple of
    all others' together.
    ``shares``: the most that each owner may hold; None: all may hold all.
    """

    def __init__(
        self,
        queued: int,
        priority: Callable[[Node], Any],
        leaves: Collection[Node],
        capacity: int,
        clock: EpochCounter,
        weights: Mapping[str, float],
        shares: CacheShares | None = None,
    ):
        self.queued = queued
        self._priority = priority
        self._evictable = leaves
        self.capacity = capacity
        self._clock = clock
        self._weights = weights
        # Hears of whoever may hold more than they are allowed.
        self.quota = Quota(shares, capacity) if shares else None
        self.segments = Segments(clock, weights)
        self.sizes = self.segments.sizes
        self._entries = 0
        # By segment: owner -> their leaves; owner -> a priority that none of them is below, for
        # which there is an entry among the heads.
        self._leaves: tuple[dict[str, list[tuple[Any, Node]]], ...] = ({}, {})
        self._oldest: tuple[dict[str, Any], ...] = ({}, {})
        # The heads of those heaps, and of those that are kept.
        self._heads: tuple[list[_Head], ...] = ([], [])
        # Owners whose protected leaves were met, and do not go for what is not.
        self._kept: dict[str, None] = {}
        self._kept_among = 0.0  # the weights of all who had claims then
        # Owners with leaves, by what they have protected; with leaves on probation, by that.
        self._by_protected = Levels(self._level_of_protected)
        self._by_probation = Levels(self._level_of_probation)

    # What the tree tells

    def resize(self, node: Node, tokens: int) -> None:
        """The node's owner holds this many tokens of it more (or fewer)."""
        if self.segments.epoch != self._clock.epoch:
            self._age()
        size = self.segments.resize(node, tokens)
        if tokens > 0:
            self._grow(node.owner, size)

    def move(self, node: Node, before: str, tokens: int) -> None:
        """The node changed hands: its tokens count for its owner from now on.

        An entry under the one before stays behind and is dropped when it is met.
        """
        if self.segments.epoch != self._clock.epoch:
            self._age()
        if tokens:
            self.segments.move(node, before, tokens)
            self._grow(node.owner, self.sizes[node.owner])
        if node.state & self.queued:
            self.offer(node)

    def ask_again(self, node: Node, tokens: int) -> None:
        """A later request came for a node; to be told before the node knows it."""
        if self.segments.epoch != self._clock.epoch:
            self._age()
        self.segments.ask_again(node, tokens)
        self._by_protected.grow(node.owner, self._level_of_protected(node.owner))
        self._look_at_claim(node.owner)

    def come_back(self, owner: str) -> None:
        """An owner sent a request, not the first in the window."""
        if self.segments.epoch != self._clock.epoch:
            self._age()
        self.segments.come_back(owner)

    def offer(self, node: Node) -> None:
        """The node may be evicted from now on."""
        if self.segments.epoch != self._clock.epoch:
            self._age()
        if self._entries > 2 * len(self._evictable) + 64:
            self._compact()
        node.state |= self.queued
        self._put(node, self._priority(node))
        if self.quota is not None and node.owner:
            self.quota.watch(node.owner, self.sizes.get(node.owner, 0))

    def advance(self, node: Node) -> None:
        """The node's priority fell: if it waits, it is to go sooner."""
        if node.state & self.queued:
            self.offer(node)

    def redivide(self, weights: Mapping[str, float], shares: CacheShares | None) -> None:
        """Weights, and the most that each owner may hold, are others from now on."""
        if self.segments.epoch != self._clock.epoch:
            self._age()
        self._weights = weights
        self.segments.reweigh(weights)
        self._keep_nobody()
        self._by_protected.rebuild()
        self._by_probation.rebuild()
        self.quota = Quota(shares, self.capacity) if shares else None
        if self.quota is not None:
            for owner, size in self.sizes.items():
                self.quota.watch(owner, size)

    def forget(self, owner: str) -> None:
        """Drop what stands for an owner's leaves that are gone, with their tokens."""
        for segment in (_PROBATION, _PROTECTED):
            leaves = self._leaves[segment].get(owner)
            if leaves is None:
                continue
            self._entries -= len(leaves)
            leaves[:] = [
                (priority, node)
                for priority, node in leaves
                if node.owner == owner and node in self._evictable
            ]
            heapq.heapify(leaves)
            self._entries += len(leaves)
            self._drop_if_empty(owner, segment)

    # What is evicted

    def take(self) -> Iterator[Node]:
        """Leaves to evict, best first; each is taken off the order. Nodes that became something
        else in the meantime are skipped when they are met."""
        while (chosen := self._choose()) is not None:
            yield self._remove(*chosen)

    def take_of(self, owner: str) -> Iterator[Node]:
        """One owner's leaves to evict, best first; each is taken off the order."""
        while (segment := self._older_segment(owner)) is not None:
            yield self._remove(owner, segment)

    def _choose(self) -> tuple[str, int] | None:
        """Whose leaf goes, and of which segment: the head of that heap."""
        if self.segments.epoch != self._clock.epoch:
            self._age()
        self._look_at_claims()
        if len(self.sizes) == 1:
            free = self._oldest_head(kept=False)
            return None if free is None else free[1:]
        floor = _SMALL * self.capacity
        above = self._furthest(self._by_probation, self.segments.holders, 1.0, floor)
        if above is not None:
            return above
        while True:
            free = self._oldest_head(kept=False)
            kept = self._oldest_head(kept=True) if self._kept else None
            for head in (kept, free):
                if head is None or (head is kept and free is not None and free[0] < kept[0]):
                    continue
                _, owner, segment = head
                if segment == _PROBATION or (level := self._protected(owner)) > 1:
                    continue
                above = self._furthest(self._by_protected, self.segments.claims, level, floor)
                if above is not None:
                    return above
            if free is None:
                break
            _, owner, segment = free
            if segment == _PROBATION or self._protected(owner) > _KEPT:
                return owner, segment
            self._keep(owner)
        # All that is left is kept.
        return self._furthest(self._by_protected, self.segments.claims, 0.0, 0.0)

    def _remove(self, owner: str, segment: int) -> Node:
        _, node = heapq.heappop(self._leaves[segment][owner])
        self._entries -= 1
        node.state &= ~self.queued
        self._drop_if_empty(owner, segment)
        return node

    # Who holds too much

    def _furthest(
        self, levels: Levels, owners: tuple[float, bool], least: float, floor: float
    ) -> tuple[str, int] | None:
        """Whose leaf goes, and of which segment: who holds most as a multiple of their fair share,
        of those with a leaf to give. None if it is not more than ``least``, or, for weight 1, not
        more tokens than ``floor``. ``owners``: among whom the tier is divided."""
        private, public = self._shares(owners)
        probation = levels is self._by_probation
        while True:
            owner, above = None, max(least, floor / private)
            top = levels.top()
            if top is not None and top[0] / private > above:
                above, owner = top[0] / private, top[1]
            held = self._public_to_give(probation)
            if held > floor and held / public > (least if owner is None else above):
                owner = PUBLIC
            if owner is None:
                return None
            if probation:
                segment = None if self._head(owner, _PROBATION) is None else _PROBATION
            else:
                segment = self._older_segment(owner)
            if segment is not None:
                return owner, segment

    def _public_to_give(self, probation: bool) -> int:
        if probation:
            return self.segments.probation(PUBLIC) if PUBLIC in self._leaves[_PROBATION] else 0
        there = any(PUBLIC in leaves for leaves in self._leaves)
        return self.segments.protected(PUBLIC) if there else 0

    def _protected(self, owner: str) -> float:
        """What an owner has protected, as a multiple of their fair share."""
        return self._multiple(owner, self.segments.protected(owner))

    def _multiple(self, owner: str, tokens: int) -> float:
        private, public = self._shares(self.segments.claims)
        if owner == PUBLIC:
            return tokens / public
        return tokens / self._weights.get(owner, 1.0) / private

    def _shares(self, owners: tuple[float, bool]) -> tuple[float, float]:
        """Fair shares of the tier in tokens: of an owner of weight 1, and of what is public."""
        private, public = owners
        share = self._weights.get(PUBLIC, 1.0) if public else 0.0
        if not private:
            return self.capacity, self.capacity
        unit = self.capacity / (1 + share)
        return unit / private, unit * share or self.capacity

    def _level(self, owner: str) -> float:
        return self.sizes.get(owner, 0) / self._weights.get(owner, 1.0)

    def _level_of_protected(self, owner: str) -> float:
        return self.segments.protected(owner) / self._weights.get(owner, 1.0)

    def _level_of_probation(self, owner: str) -> float:
        return self.segments.probation(owner) / self._weights.get(owner, 1.0)

    def _grow(self, owner: str, size: int) -> None:
        if not owner:
            return
        if self.quota is not None:
            self.quota.watch(owner, size)
        self._by_protected.grow(owner, self._level_of_protected(owner))
        # No more of it is on probation.
        self._by_probation.grow(owner, size / self._weights.get(owner, 1.0))
        if self._kept:
            self._look_at_claim(owner)

    # Claims that are not looked at again and again

    def _keep(self, owner: str) -> None:
        """Pass over an owner's protected leaves until their claim changes."""
        if not self._kept:
            self._kept_among = self.segments.claims[0]
        self._kept[owner] = None
        self._announce(owner, _PROTECTED)

    def _look_at_claim(self, owner: str) -> None:
        if owner in self._kept and self._protected(owner) > _KEPT:
            del self._kept[owner]
            self._announce(owner, _PROTECTED)

    def _look_at_claims(self) -> None:
        """Nobody is kept from their only owner; and the more owners ask for something again, the
        smaller is each one's share."""
        if self._kept and (
            len(self.sizes) == 1 or self.segments.claims[0] > (1 + _STALE) * self._kept_among
        ):
            self._keep_nobody()

    def _keep_nobody(self) -> None:
        kept, self._kept = self._kept, {}
        for owner in kept:
            self._announce(owner, _PROTECTED)
        self._heads[True].clear()

    # Heaps of leaves

    def _age(self) -> None:
        """Where an epoch has passed: what was asked for before the window is on probation again.

        A request protects no more leaves than it has nodes, so each pays for a few.
        """
        self._keep_nobody()
        is_protected = self.segments.is_protected
        for owner in self.segments.age():
            self._by_probation.grow(owner, self._level(owner))
            leaves = self._leaves[_PROTECTED].get(owner, [])
            aged = [entry for entry in leaves if not is_protected(entry[1])]
            if not aged:
                continue
            leaves[:] = [entry for entry in leaves if is_protected(entry[1])]
            heapq.heapify(leaves)
            self._entries -= len(aged)
            self._drop_if_empty(owner, _PROTECTED)
            for priority, node in aged:
                if node.owner == owner:
                    self._put(node, priority)

    def _put(self, node: Node, priority: Any) -> None:
        owner = node.owner
        segment = _PROTECTED if self.segments.epoch - node.asked_again < 2 else _PROBATION
        leaves = self._leaves[segment].get(owner)
        if leaves is None:
            leaves = self._leaves[segment][owner] = []
            if owner:
                self._by_protected.add(owner)
                if segment == _PROBATION:
                    self._by_probation.add(owner)
        heapq.heappush(leaves, (priority, node))
        self._entries += 1
        oldest = self._oldest[segment]
        if owner not in oldest or priority < oldest[owner]:
            self._announce(owner, segment)

    def _announce(self, owner: str, segment: int) -> None:
        """An owner's first leaf is an older one now, or is kept, or is not any more."""
        priority = self._leaves[segment][owner][0][0]
        self._oldest[segment][owner] = priority
        kept = self._is_kept(owner, segment)
        heapq.heappush(self._heads[kept], (priority, owner, segment))
        if len(self._heads[kept]) > 2 * sum(map(len, self._oldest)) + 32:
            self._heads[kept][:] = [
                (priority, owner, segment)
                for segment in (_PROBATION, _PROTECTED)
                for owner, priority in self._oldest[segment].items()
                if self._is_kept(owner, segment) == kept
            ]
            heapq.heapify(self._heads[kept])

    def _is_kept(self, owner: str, segment: int) -> bool:
        return segment == _PROTECTED and owner in self._kept

    def _oldest_head(self, *, kept: bool) -> _Head | None:
        """The oldest leaf's priority, whose it is, and in which segment; of those that are kept,
        or of all others."""
        heads = self._heads[kept]
        while heads:
            priority, owner, segment = heads[0]
            oldest = self._oldest[segment]
            if oldest.get(owner) != priority or self._is_kept(owner, segment) != kept:
                heapq.heappop(heads)  # another entry stands for them
                continue
            head = self._head(owner, segment)
            if head == priority:
                return heads[0]
            if head is not None:
                oldest[owner] = head
                heapq.heapreplace(heads, (head, owner, segment))
        return None

    def _older_segment(self, owner: str) -> int | None:
        """Which of an owner's two heaps has the older leaf."""
        if self.segments.epoch != self._clock.epoch:
            self._age()
        probation, protected = self._head(owner, _PROBATION), self._head(owner, _PROTECTED)
        if probation is None:
            return None if protected is None else _PROTECTED
        return _PROBATION if protected is None or probation < protected else _PROTECTED

    def _head(self, owner: str, segment: int) -> Any:
        """The priority of an owner's oldest leaf in a segment, which is its heap's first; None
        if there is no such leaf."""
        leaves = self._leaves[segment].get(owner)
        while leaves:
            priority, node = leaves[0]
            if node.owner == owner and node in self._evictable:
                current = self._priority(node)
                if segment == _PROBATION and self.segments.is_protected(node):
                    heapq.heappop(leaves)
                    self._entries -= 1
                    self._put(node, current)
                elif current == priority:
                    return priority
                else:
                    heapq.heapreplace(leaves, (current, node))
                continue
            heapq.heappop(leaves)
            self._entries -= 1
            if node.owner == owner:
                node.state &= ~self.queued
        self._drop_if_empty(owner, segment)
        return None

    def _drop_if_empty(self, owner: str, segment: int) -> None:
        if owner in self._leaves[segment] and not self._leaves[segment][owner]:
            del self._leaves[segment][owner]
            self._oldest[segment].pop(owner, None)
            if segment == _PROTECTED:
                self._kept.pop(owner, None)
            else:
                self._by_probation.discard(owner)
            if owner not in self._leaves[1 - segment]:
                self._by_protected.discard(owner)

    def _compact(self) -> None:
        """Drop the entries of leaves that left by other ways than eviction."""
        entries = [entry for heaps in self._leaves for heap in heaps.values() for entry in heap]
        for segment in (_PROBATION, _PROTECTED):
            self._leaves[segment].clear()
            self._oldest[segment].clear()
        for heads in self._heads:
            heads.clear()
        self._by_protected.clear()
        self._by_probation.clear()
        self._kept.clear()
        self._entries = 0
        for _, node in entries:
            node.state &= ~self.queued
        for _, node in entries:
            if node in self._evictable and not node.state & self.queued:
                node.state |= self.queued
                self._put(node, self._priority(node))
