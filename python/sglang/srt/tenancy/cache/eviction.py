"""Eviction on the device, by fair share, in a time that does not grow with the tree."""

from __future__ import annotations

import time

from sglang.srt.mem_cache.base_prefix_cache import EvictParams, EvictResult
from sglang.srt.tenancy.cache.node import JOINED, Node
from sglang.srt.tenancy.cache.requests import Requests

# A joined node gives up at least this part of itself, so that cutting it stays cheap.
_SMALLEST_CUT = 8


class FairEviction(Requests):
    """Leaves go by ``EvictionOrder``: upstream's exact order while there is one owner."""

    def evict(self, params: EvictParams) -> EvictResult:
        if self.disable:
            return EvictResult()
        started = time.perf_counter()
        evicted = 0
        if params.num_tokens > 0:
            for leaf in self.device_order.take(self.evictable_leaves.__contains__):
                node = self._tail(leaf, params.num_tokens - evicted)
                evicted += self._evict_leaf(node)
                if evicted >= params.num_tokens:
                    break
        self.update_eviction_metrics(evicted, started)
        return EvictResult(num_tokens_evicted=evicted)

    def _tail(self, leaf: Node, needed: int) -> Node:
        """The part of a leaf to evict: of a joined chain no more than its nodes would have lost."""
        size = len(leaf.key)
        page = self.page_size
        cut = max(needed, size // _SMALLEST_CUT)
        cut = -(-cut // page) * page
        if leaf.state & JOINED and cut < size:
            self._split_node(leaf.key, leaf, size - cut)
        return leaf

    def _evict_leaf(self, leaf: Node) -> int:
        """Returns the tokens freed on the device."""
        assert leaf.value is not None
        self._record_remove_event(leaf)
        self.token_to_kv_pool_allocator.free_segment(leaf.value, start_pos=0)
        self._delete_leaf(leaf)
        return len(leaf.key)
