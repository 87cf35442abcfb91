"""Count admitted requests on the nodes they pass."""

from __future__ import annotations

from sglang.srt.tenancy.cache.core.node import NEVER, UNCOUNTED, Node
from sglang.srt.tenancy.cache.core.order import EvictionOrder
from sglang.srt.tenancy.cache.core.tree import PrefixTree
from sglang.srt.tenancy.cache.core.window import EpochCounter


class HitCounter:
    """``orders``: of all tiers, which hear of whoever comes back."""

    def __init__(self, tree: PrefixTree, clock: EpochCounter, orders: list[EvictionOrder]):
        self._tree = tree
        self._clock = clock
        self._orders = orders

    def admit(self, user: str) -> None:
        """Count one more request, of a user or ("") of nobody."""
        if self._clock.admit(user):
            for order in self._orders:
                order.come_back(user)

    def count_path(self, last: Node, user: str, counted: int) -> int:
        """Count a request on the nodes down to ``last``, those that begin in its first ``counted``
        tokens aside, which know of it. Returns how many tokens are counted now."""
        start = depth = self._tree.depth(last)
        node = last
        while node.parent is not None:
            start -= len(node.key)
            if start < counted:
                break
            self._count(node, user)
            node = node.parent
        return max(depth, counted)

    def _count(self, node: Node, user: str) -> None:
        self._clock.count(node, user)
        if node.asked_again == UNCOUNTED:  # the request it came with
            node.asked_again = NEVER
        else:
            self.ask_again(node)

    def ask_again(self, node: Node) -> None:
        """Note that a later request came for a node, which has a claim to stay (``order.py``)."""
        if node.asked_again != self._clock.epoch:
            self._tree.host.ask_again(node)
            self._tree.device.ask_again(node)
            node.asked_again = self._clock.epoch
