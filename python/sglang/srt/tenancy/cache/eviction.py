"""Eviction on the device, by fair share, in a time that does not grow with the tree."""

from __future__ import annotations

import time
from collections.abc import Iterator

from sglang.srt.mem_cache.base_prefix_cache import EvictParams, EvictResult
from sglang.srt.tenancy.cache.core.node import JOINED, Node
from sglang.srt.tenancy.cache.requests import Requests

# A joined node gives up at least this part of itself, so that cutting it stays cheap.
_SMALLEST_CUT = 8


class FairEviction(Requests):
    """Leaves go by ``EvictionOrder``: upstream's exact order while there is one owner."""

    def evict(self, params: EvictParams) -> EvictResult:
        if self.disable:
            return EvictResult()
        started = time.perf_counter()
        evicted = self._evict_from(self.device_order.take(), params.num_tokens)
        if evicted < params.num_tokens:
            evicted += self._wait_for_frees(params.num_tokens - evicted)
        self.update_eviction_metrics(evicted, started)
        return EvictResult(num_tokens_evicted=evicted)

    def _wait_for_frees(self, needed: int) -> int:
        """Free what waits for launched batches, and evict what only such waiting kept. Returns
        the tokens freed."""
        before = self.token_to_kv_pool_allocator.available_size()
        if not self.device_frees.flush():
            return 0
        freed = int(self.token_to_kv_pool_allocator.available_size() - before)
        if freed < needed:
            freed += self._evict_from(self.device_order.take(), needed - freed)
        return freed

    def _evict_from(self, leaves: Iterator[Node], needed: int, cut_any: bool = False) -> int:
        """Evict leaves until ``needed`` tokens are free. Returns how many are."""
        evicted = 0
        while evicted < needed and (leaf := next(leaves, None)) is not None:
            evicted += self._evict_leaf(self._tail(leaf, needed - evicted, cut_any))
        return evicted

    def _tail(self, leaf: Node, needed: int, cut_any: bool = False) -> Node:
        """The part of a leaf to evict: of a joined chain no more than its nodes would have lost.

        ``cut_any``: of any leaf no more than is needed.
        """
        size = len(leaf.key)
        page = self.page_size
        cut = max(needed, size // _SMALLEST_CUT)
        cut = -(-cut // page) * page
        if (cut_any or leaf.state & JOINED) and cut < size:
            rest = self._split_node(leaf.key, leaf, size - cut)
            rest.last_access_time = leaf.last_access_time  # it goes on being the oldest
        return leaf

    def _evict_leaf(self, leaf: Node) -> int:
        """Returns the tokens freed on the device."""
        assert leaf.value is not None
        self._record_remove_event(leaf)
        self.token_to_kv_pool_allocator.free_segment(leaf.value, start_pos=0)
        self._delete_leaf(leaf)
        return len(leaf.key)
