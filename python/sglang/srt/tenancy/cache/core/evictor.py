"""Evict leaves of each tier, by fair share, in a time that does not grow with the tree."""

from __future__ import annotations

from collections.abc import Iterator

from sglang.srt.tenancy.cache.core.interfaces import TierName
from sglang.srt.tenancy.cache.core.node import JOINED, Node
from sglang.srt.tenancy.cache.core.order import EvictionOrder
from sglang.srt.tenancy.cache.core.tier import HostTier
from sglang.srt.tenancy.cache.core.tree import PrefixTree

# A joined node gives up at least this part of itself, so that cutting it stays cheap.
_SMALLEST_CUT = 8
# Names of counts, of tokens that were public and that were private.
_FROM_DEVICE = ("evicted_device_public", "evicted_device_private")
_FROM_HOST = ("evicted_host_public", "evicted_host_private")


class DeviceEvictor:
    """Leaves go by ``EvictionOrder``: upstream's exact order while there is one owner."""

    def __init__(self, tree: PrefixTree):
        self._tree = tree

    @property
    def order(self) -> EvictionOrder:
        return self._tree.device.order

    def evict(self, tokens: int) -> int:
        """Free so many device tokens, or as many as there are to free. Returns how many."""
        evicted = self.evict_from(self.order.take(), tokens)
        if evicted < tokens:
            evicted += self._wait_for_frees(tokens - evicted)
        return evicted

    def _wait_for_frees(self, needed: int) -> int:
        """Free what waits for launched batches, and evict what only such waiting kept. Returns
        the tokens freed."""
        memory = self._tree.memory
        before = memory.available()
        if not self._tree.device_frees.flush():
            return 0
        freed = memory.available() - before
        if freed < needed:
            freed += self.evict_from(self.order.take(), needed - freed)
        return freed

    def evict_from(self, leaves: Iterator[Node], needed: int, cut_any: bool = False) -> int:
        """Evict these leaves until ``needed`` tokens are free. Returns how many are.

        ``cut_any``: no more than is needed of any leaf.
        """
        evicted = 0
        while evicted < needed and (leaf := next(leaves, None)) is not None:
            evicted += self._evict_leaf(_tail(self._tree, leaf, needed - evicted, cut_any))
        return evicted

    def _evict_leaf(self, leaf: Node) -> int:
        """Returns the tokens freed on the device. What the host has too stays in the tree."""
        tree, slots, parent = self._tree, leaf.value, leaf.parent
        assert parent is not None
        tree.logical.counts[_FROM_DEVICE[bool(leaf.owner)]] += len(slots)
        tree.events.removed(leaf, TierName.DEVICE)
        tree.device.remove(leaf)
        if leaf.host_value is None:
            tree.index.detach(leaf)
        else:
            leaf.value = None
            tree.host.update(leaf)
        tree.device.update(parent)
        tree.host.update(parent)
        tree.memory.free_device(slots)
        return len(slots)


class HostEvictor:
    def __init__(self, tree: PrefixTree, host: HostTier):
        self._tree = tree
        self._host = host

    @property
    def order(self) -> EvictionOrder:
        return self._host.order

    def evict(self, tokens: int) -> int:
        """Free so many host tokens, or as many as there are to free. Returns how many."""
        return self.evict_from(self.order.take(), tokens)

    def evict_from(self, leaves: Iterator[Node], needed: int, cut_any: bool = False) -> int:
        """Evict these leaves, those that a transfer uses aside, until ``needed`` tokens are free.
        Returns how many are."""
        evicted = 0
        in_use: list[Node] = []
        while evicted < needed and (leaf := next(leaves, None)) is not None:
            if leaf.host_ref_counter:
                in_use.append(leaf)
            else:
                evicted += self._evict_leaf(_tail(self._tree, leaf, needed - evicted, cut_any))
        for leaf in in_use:
            self.order.offer(leaf)
        return evicted

    def _evict_leaf(self, leaf: Node) -> int:
        tree, slots, parent = self._tree, leaf.host_value, leaf.parent
        assert parent is not None
        tree.logical.counts[_FROM_HOST[bool(leaf.owner)]] += len(slots)
        tree.events.removed(leaf, TierName.HOST)
        tree.memory.free_host(slots)
        leaf.host_value = None
        self._host.remove(leaf)
        tree.index.detach(leaf)
        self._host.update(parent)
        return len(slots)


def _tail(tree: PrefixTree, leaf: Node, needed: int, cut_any: bool) -> Node:
    """Cut a leaf to what is to be evicted: of a joined chain no more than its nodes would have
    lost, of any leaf no more than is needed where ``cut_any``."""
    size, page = len(leaf.key), tree.page_size
    cut = max(needed, size // _SMALLEST_CUT)
    cut = -(-cut // page) * page
    if (cut_any or leaf.state & JOINED) and cut < size:
        rest = tree.split(leaf, size - cut)
        rest.last_access_time = leaf.last_access_time  # it goes on being the oldest
    return leaf
