"""Who gives next, as docs/tree.md says it: everything is looked at each time."""

from __future__ import annotations

from array import array
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from sglang.srt.mem_cache.radix_cache import RadixKey
from sglang.srt.tenancy.cache.core.node import PUBLIC, QUEUED_DEVICE, Node, walk
from sglang.srt.tenancy.cache.core.order import EvictionOrder
from sglang.srt.tenancy.namespace import Namespace

SMALL = 1 / 8
KEPT = 1 / 2


@dataclass
class Line:
    """What is too much: for a private owner of weight 1, and for all that is public."""

    private: float
    public: float

    def above(self, tokens: float, owner: str, weights: Mapping[str, float]) -> float:
        """Tokens as a multiple of what is too much for this owner."""
        if owner == PUBLIC:
            return tokens / self.public
        return tokens / weights.get(owner, 1.0) / self.private


def line_of(capacity: int, owners: Collection[str], weights: Mapping[str, float]) -> Line:
    private = sum(weights.get(owner, 1.0) for owner in owners if owner)
    public = weights.get(PUBLIC, 1.0) if PUBLIC in owners else 0.0
    if not private:
        return Line(capacity, capacity)
    return Line(capacity / (1 + public) / private, capacity * public / (1 + public) or capacity)


def hold(order: EvictionOrder, owner: str, tokens: int) -> None:
    """Have an owner hold so many tokens more, as a new node of theirs does."""
    extra_key = Namespace(owner, None) if owner else None
    order.resize(Node(RadixKey(array("q", [0]), extra_key), None, 0, 0, 0), tokens)


class Rule:
    """The rule for one tier of a tree. ``returning``: owners who came twice in the
    window."""

    def __init__(
        self,
        order: EvictionOrder,
        root: Node,
        leaves: Collection[Node],
        epoch: int,
        returning: Collection[str],
        capacity: int,
        weights: Mapping[str, float],
    ):
        self.order, self.epoch, self.weights = order, epoch, weights
        self.leaves = [leaf for leaf in leaves if leaf.state & order.queued]
        self.probation: dict[str, int] = {}
        self.protected: dict[str, int] = {}
        device = order.queued == QUEUED_DEVICE
        for node in walk(root):
            tokens = node.device_held if device else node.host_held
            for counts in (self.probation, self.protected) if tokens else ():
                counts.setdefault(node.owner, 0)
            if tokens:
                counts = self.protected if self.is_protected(node) else self.probation
                counts[node.owner] += tokens
        public = [PUBLIC] if PUBLIC in self.probation else []
        self.too_much = line_of(capacity, self.probation, weights)
        self.share = line_of(capacity, [*returning, *public], weights)
        self.floor = SMALL * capacity

    def is_protected(self, node: Node) -> bool:
        return self.epoch - node.asked_again < 2

    def next(self) -> set[Node]:
        """The leaves of which one must go now; several where owners are equally far above."""
        if not self.leaves:
            return set()
        if len(self.probation) == 1:
            return {self._oldest(self.leaves)}
        on_probation = [leaf for leaf in self.leaves if not self.is_protected(leaf)]
        found = self._furthest(on_probation, self.probation, self.too_much, 1, self.floor)
        if found:
            return found
        allowed: set[Node] = set()
        by_age = sorted(self.leaves, key=lambda leaf: leaf.last_access_time)
        for place, leaf in enumerate(by_age):
            above = self._above(leaf)
            if not self._stays(leaf):
                return allowed | (above or {leaf})
            if above and not place:
                return above
            allowed |= above  # those that stay are not all looked at each time
        return self._furthest(self.leaves, self.protected, self.share, 0, 0)

    def _above(self, leaf: Node) -> set[Node]:
        """Who gives for a leaf that has a claim."""
        share = self._multiple(self.protected[leaf.owner], leaf.owner)
        if not self.is_protected(leaf) or share > 1:
            return set()
        return self._furthest(self.leaves, self.protected, self.share, share, self.floor)

    def _stays(self, leaf: Node) -> bool:
        above = self._multiple(self.protected[leaf.owner], leaf.owner)
        return self.is_protected(leaf) and above <= KEPT

    def _multiple(self, tokens: int, owner: str) -> float:
        return self.share.above(tokens, owner, self.weights)

    def _furthest(
        self,
        leaves: list[Node],
        held: Mapping[str, int],
        share: Line,
        least: float,
        floor: float,
    ) -> set[Node]:
        above = {
            leaf.owner: share.above(held[leaf.owner], leaf.owner, self.weights)
            for leaf in leaves
            if held[leaf.owner] / self._weight(leaf.owner) > floor
        }
        top = max(above.values(), default=0)
        if top <= least:
            return set()
        owners = [owner for owner in above if above[owner] > top - 1e-9]
        return {self._oldest([leaf for leaf in leaves if leaf.owner == owner]) for owner in owners}

    def _weight(self, owner: str) -> float:
        return self.weights.get(owner, 1.0) if owner else 1.0

    @staticmethod
    def _oldest(leaves: list[Node]) -> Node:
        return min(leaves, key=lambda leaf: leaf.last_access_time)
