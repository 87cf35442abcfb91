"""Eviction by fair share, on device and on host, in a time that does not grow with the tree."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

from sglang.srt.mem_cache.base_prefix_cache import EvictParams, EvictResult
from sglang.srt.mem_cache.hiradix_cache import HiRadixCache
from sglang.srt.mem_cache.radix_cache import RadixCache, RadixKey, TreeNode
from sglang.srt.tenancy.cache.order import (
    DEVICE,
    HOST,
    EvictionOrder,
    NodeAccount,
    account_of,
    owner_of,
)

if TYPE_CHECKING:
    pass


class FairEviction(RadixCache):
    """Mixin: each owner's tokens on the device are counted, and leaves are evicted by share.

    Upstream calls ``_update_leaf_status`` whenever a node's value, lock or children change;
    that is where a node is counted and a leaf queued.
    """

    weights: Mapping[str, float]  # owner -> share; set before the tree is made

    def reset(self) -> None:
        self.device_order = EvictionOrder(DEVICE, self.eviction_strategy.get_priority, self.weights)
        super().reset()

    def _update_leaf_status(self, node: TreeNode) -> None:
        super()._update_leaf_status(node)
        try:  # account_of(), written out: this is called for each node of each lock and insert
            account = node.account
        except AttributeError:
            account = node.account = NodeAccount()
        value = node.value
        if (value is None) != (account.device_held == 0):  # or it is as it was
            held = 0 if value is None else len(value)
            self.device_order.resize(owner_of(node), held - account.device_held)
            account.device_held = held
        if not account.queued & DEVICE and node in self.evictable_leaves:
            self.device_order.offer(node, account)

    def _split_node(self, key: RadixKey, child: TreeNode, split_len: int) -> TreeNode:
        upper = super()._split_node(key, child, split_len)
        below, above = account_of(child), account_of(upper)
        if below.device_held:
            above.device_held, below.device_held = len(upper.key), len(child.key)
        if below.host_held:
            above.host_held, below.host_held = len(upper.key), len(child.key)
        return upper

    def _delete_leaf(self, node: TreeNode) -> None:
        account = account_of(node)
        self.device_order.resize(owner_of(node), -account.device_held)
        account.device_held = 0
        super()._delete_leaf(node)

    def evict(self, params: EvictParams) -> EvictResult:
        if self.disable:
            return EvictResult()
        started = time.perf_counter()
        evicted = 0
        if evicted < params.num_tokens:
            for node in self.device_order.take(self.evictable_leaves.__contains__):
                evicted += self._evict_leaf(node)
                if evicted >= params.num_tokens:
                    break
        self.update_eviction_metrics(evicted, started)
        return EvictResult(num_tokens_evicted=evicted)

    def _evict_leaf(self, node: TreeNode) -> int:
        self.token_to_kv_pool_allocator.free_segment(node.value, start_pos=0)
        self._delete_leaf(node)
        self._record_remove_event(node)
        return len(node.key)

    def sanity_check(self) -> None:
        """Raise AssertionError where a count differs from what a walk of the tree finds."""
        device: dict[str, int] = {}
        host: dict[str, int] = {}
        locked = free = 0
        for node in walk(self.root_node):
            owner, size = owner_of(node), len(node.key)
            if not node.evicted:
                device[owner] = device.get(owner, 0) + size
                locked += size if node.lock_ref else 0
                free += 0 if node.lock_ref else size
            if node.backuped:
                host[owner] = host.get(owner, 0) + size
        assert device == self.device_order.sizes, (device, self.device_order.sizes)
        assert (free, locked) == (self.evictable_size_, self.protected_size_)
        self._check_host(host)

    def _check_host(self, host: dict[str, int]) -> None:
        assert not host


class FairHostEviction(FairEviction, HiRadixCache):
    """The same for the host tier."""

    def reset(self) -> None:
        self.host_order = EvictionOrder(HOST, self.eviction_strategy.get_priority, self.weights)
        super().reset()

    def _update_host_leaf_status(self, node: TreeNode) -> None:
        super()._update_host_leaf_status(node)
        account = self._count_host(node)
        if not account.queued & HOST and node in self.evictable_host_leaves:
            self.host_order.offer(node, account)

    def _count_host(self, node: TreeNode) -> NodeAccount:
        account = account_of(node)
        held = len(node.key) if node.backuped else 0
        if held != account.host_held:
            self.host_order.resize(owner_of(node), held - account.host_held)
            account.host_held = held
        return account

    def evict(self, params: EvictParams) -> EvictResult:
        if self.cache_controller.write_policy == "write_back":
            # Upstream's staging wants the whole order at once; it is to be removed there.
            result: EvictResult = HiRadixCache.evict(self, params)
            return result
        return super().evict(params)

    def _evict_leaf(self, node: TreeNode) -> int:
        evict = self._evict_backuped if node.backuped else self._evict_regular
        return int(evict(node))

    def evict_host(self, num_tokens: int) -> None:
        evicted = 0
        in_use: list[TreeNode] = []
        if num_tokens > 0:
            for node in self.host_order.take(self.evictable_host_leaves.__contains__):
                if node.host_ref_counter > 0:
                    in_use.append(node)
                    continue
                evicted += self._evict_host_leaf(node)
                if evicted >= num_tokens:
                    break
        for node in in_use:
            self.host_order.offer(node, account_of(node))

    def _evict_host_leaf(self, node: TreeNode) -> int:
        from sglang.srt.mem_cache.events import StorageMedium

        self._record_remove_event(node, medium=StorageMedium.CPU)
        evicted = int(self.cache_controller.evict_host(node.host_value))
        node.host_value = None
        self._count_host(node)
        self.evictable_host_leaves.discard(node)
        del node.parent.children[node.key.child_key(self.page_size)]
        self._update_host_leaf_status(node.parent)
        return evicted

    def _drop_subtree_no_host(self, root: TreeNode) -> int:
        nodes = [root, *walk(root)]
        dropped = int(super()._drop_subtree_no_host(root))
        for node in nodes:
            self._update_leaf_status(node)
            self._count_host(node)
        return dropped

    def _check_host(self, host: dict[str, int]) -> None:
        assert host == self.host_order.sizes, (host, self.host_order.sizes)


def walk(root: TreeNode) -> list[TreeNode]:
    """All nodes below the root."""
    found: list[TreeNode] = []
    stack = [root]
    while stack:
        children = stack.pop().children.values()
        found.extend(children)
        stack.extend(children)
    return found
