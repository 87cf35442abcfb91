"""Whom to evict first: the owner furthest above their fair share, then their oldest leaf.

One order per tier. A single lazy heap over all leaves would be wrong: a leaf becomes more
evictable whenever its owner's share changes. So each owner has a heap of their leaves, and
the owner is chosen first. Cost of one eviction: amortised O(log n).
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from sglang.srt.mem_cache.radix_cache import TreeNode
from sglang.srt.tenancy.ownership import Namespace

# Whoever owns no namespace of their own: in shared mode, everybody.
PUBLIC = ""

_ROOM_TO_GROW = 1.25

# Tiers, as bits of ``NodeAccount.queued``.
DEVICE, HOST = 1, 2


class NodeAccount:
    """What the orders know of a node, in one object beside it.

    Upstream's node has room for one more attribute: a second would take it out of Python's
    shared attribute table and triple its size.
    """

    __slots__ = ("device_held", "host_held", "queued")

    def __init__(self) -> None:
        self.device_held = 0  # tokens counted for its owner
        self.host_held = 0
        self.queued = 0


def account_of(node: TreeNode) -> NodeAccount:
    try:
        account: NodeAccount = node.account
    except AttributeError:
        account = node.account = NodeAccount()
    return account


def owner_of(node: TreeNode) -> str:
    namespace = node.key.extra_key
    return namespace.owner if isinstance(namespace, Namespace) else PUBLIC


class EvictionOrder:
    """The evictable leaves of one tier, and how many tokens each owner holds on it.

    ``priority``: upstream's eviction strategy; smaller goes first. It may only grow while a
    leaf waits (time of last use, hit count): entries are corrected when they are met, so
    a touch costs nothing.
    ``weights``: owner -> share, 1 for whoever is missing.
    """

    def __init__(
        self, tier: int, priority: Callable[[TreeNode], Any], weights: Mapping[str, float]
    ):
        self.tier = tier
        self._priority = priority
        self._weights = weights
        self.sizes: dict[str, int] = {}
        self._leaves: dict[str, list[tuple[Any, TreeNode]]] = {}
        # For each owner with leaves, a size that theirs has not outgrown, and one entry in the
        # heap for it. An entry is made exact when it is met; only outgrowing it costs a push.
        self._bounds: dict[str, float] = {}
        self._levels: list[tuple[float, str]] = []

    def resize(self, owner: str, tokens: int) -> None:
        """The owner holds this many tokens more (or fewer)."""
        size = self.sizes[owner] = self.sizes.get(owner, 0) + tokens
        if not size:
            del self.sizes[owner]
        elif tokens > 0 and size > self._bounds.get(owner, math.inf):
            self._announce(owner)

    def offer(self, node: TreeNode, account: NodeAccount) -> None:
        """The node, which is not queued, may be evicted from now on."""
        account.queued |= self.tier
        owner = owner_of(node)
        try:
            leaves = self._leaves[owner]
        except KeyError:
            leaves = self._leaves[owner] = []
            self._announce(owner)
        heapq.heappush(leaves, (self._priority(node), node))

    def take(self, is_evictable: Callable[[TreeNode], bool]) -> Iterator[TreeNode]:
        """Leaves to evict, best first; each is taken off the order. Nodes that became something
        else in the meantime are skipped when they are met."""
        while (owner := self._furthest_above()) is not None:
            leaves = self._leaves[owner]
            priority, node = leaves[0]
            current = self._priority(node)
            evictable = is_evictable(node)
            if evictable and current != priority:
                heapq.heapreplace(leaves, (current, node))
                continue
            heapq.heappop(leaves)
            account_of(node).queued &= ~self.tier
            if evictable:
                yield node

    def _furthest_above(self) -> str | None:
        """The owner with leaves who holds most for their weight."""
        while self._levels:
            level, owner = self._levels[0]
            bound, size = self._bounds.get(owner), self.sizes.get(owner, 0)
            if bound is None or level != self._level(owner, bound):
                heapq.heappop(self._levels)  # a newer entry stands for the owner
            elif not self._leaves[owner]:
                heapq.heappop(self._levels)
                del self._leaves[owner], self._bounds[owner]
            elif bound != size:
                self._bounds[owner] = size
                heapq.heapreplace(self._levels, (self._level(owner, size), owner))
            else:
                return owner
        return None

    def _announce(self, owner: str) -> None:
        bound = self._bounds[owner] = _ROOM_TO_GROW * self.sizes.get(owner, 0)
        heapq.heappush(self._levels, (self._level(owner, bound), owner))
        if len(self._levels) > 2 * len(self._leaves) + 64:
            self._levels = [(self._level(o, bound), o) for o, bound in self._bounds.items()]
            heapq.heapify(self._levels)

    def _level(self, owner: str, size: float) -> float:
        """Smaller is further above the fair share."""
        return -size / self._weights.get(owner, 1.0)
