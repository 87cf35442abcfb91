"""The hierarchical tenant cache: device and host."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from typing import TYPE_CHECKING

import torch

from sglang.srt.mem_cache.base_prefix_cache import MatchResult
from sglang.srt.mem_cache.events import StorageMedium
from sglang.srt.mem_cache.radix_cache import RadixKey
from sglang.srt.tenancy.cache.adapters.hiradix.deferred_free import HostFrees
from sglang.srt.tenancy.cache.check import Checked
from sglang.srt.tenancy.cache.core.node import LOGICALLY_FREED, QUEUED_HOST, Node, walk
from sglang.srt.tenancy.cache.core.order import EvictionOrder
from sglang.srt.tenancy.cache.core.quota import CacheShares
from sglang.srt.tenancy.cache.storage_erasure import StorageErasing

if TYPE_CHECKING:
    from sglang.srt.mem_cache.cache_init_params import CacheInitParams
    from sglang.srt.server_args import ServerArgs


class TenantHiRadixCache(Checked, StorageErasing):
    """Upstream's ``HiRadixCache`` with owners: its transfers, our tree.

    On the host the same holds as on the device: nodes are counted for their owner, evicted by
    share, and a logically freed node keeps its host slots until no transfer reads them.
    """

    def __init__(
        self,
        params: CacheInitParams,
        server_args: ServerArgs,
        weights: Mapping[str, float],
        shares: CacheShares | None = None,
    ):
        super().__init__(params, server_args, weights, shares, server_args=server_args)
        self._ask_storage_by_owner()

    def reset(self) -> None:
        super().reset()
        self.host_order = self._new_order(QUEUED_HOST, self.token_to_kv_pool_host)
        self._until_written: dict[int, list[Node]] = {}  # write -> nodes it keeps on the device
        self.host_frees = HostFrees(self.cache_controller.evict_host, self._transfers)

    def _transfers(self) -> Iterator[Hashable]:
        """What reads or writes the host copies of nodes now."""
        yield from (("write", ack) for ack in self.ongoing_write_through)
        yield from (("load", node) for node in self.ongoing_load_back)
        yield from (("backup", operation) for operation in self.ongoing_backup)

    # Finding and inserting

    def _matched(self, indices: torch.Tensor, node: Node) -> MatchResult:
        on_device = on_host = node
        host_hit = 0
        while on_device.value is None:
            assert on_device.host_value is not None
            assert on_device.parent is not None
            host_hit += len(on_device.host_value)
            on_device = on_device.parent
        while on_host.host_value is None:
            assert on_host.parent is not None
            on_host = on_host.parent
        return MatchResult(
            device_indices=indices,
            last_device_node=on_device,
            last_host_node=on_host,
            best_match_node=on_host,
            host_hit_length=host_hit,
        )

    def _refill(self, node: Node, slots: torch.Tensor) -> None:
        super()._refill(node, slots)
        self._update_host_leaf_status(node)

    def _split_node(self, key: RadixKey, child: Node, split_len: int) -> Node:
        upper = super()._split_node(key, child, split_len)
        if child.host_value is not None:
            self._replace_pending_write_through_node(child, [upper, child])
            if child.host_ref_counter:  # the transfer reads both parts, and knows of one
                self.host_frees.protect(upper)
        return upper

    def _orders(self) -> list[EvictionOrder]:
        return [*super()._orders(), self.host_order]

    # Sizes and evictable leaves of the host

    def _update_host_leaf_status(self, node: Node) -> None:
        held = node.host_value is not None
        if held != bool(node.host_held) and node.parent is not None:
            if held:
                node.host_held = len(node.key)
                self.host_order.resize(node, node.host_held)
                node.parent.host_children += 1
            else:
                self._uncount_host(node)
        if node.value is not None or node.lock_ref or node.host_children or not held:
            self.evictable_host_leaves.discard(node)
        else:
            self.evictable_host_leaves.add(node)
            if not node.state & QUEUED_HOST:
                self.host_order.offer(node)

    def _ask_again(self, node: Node) -> None:
        if node.asked_again != self.clock.epoch:
            self.host_order.ask_again(node, node.host_held)
        super()._ask_again(node)

    def _uncount_host(self, node: Node) -> None:
        if node.host_held:
            self.host_order.resize(node, -node.host_held)
            node.host_held = 0
            assert node.parent is not None
            node.parent.host_children -= 1

    def _delete_leaf(self, node: Node) -> None:
        super()._delete_leaf(node)
        assert node.parent is not None
        self._update_host_leaf_status(node.parent)

    # Transfers

    def write_backup(self, node: Node, write_back: bool = False) -> int:
        written = int(super().write_backup(node, write_back))
        if written:
            self._update_host_leaf_status(node)
        return written

    def load_back(self, node: Node, mem_quota: int | None = None) -> torch.Tensor | None:
        absent = []
        walker: Node = node
        while walker.value is None:
            absent.append(walker)
            assert walker.parent is not None
            walker = walker.parent
        loaded: torch.Tensor | None = super().load_back(node, mem_quota)
        if loaded is not None:
            for back in absent:  # the deepest first: a parent counts its children
                self._update_leaf_status(back)
                self._update_host_leaf_status(back)
            self._update_leaf_status(walker)
        return loaded

    def _finish_write_through_ack(self, ack_id: int, *, release_lock: bool) -> None:
        """A copy to the host has arrived. Not upstream's: what was one node when the copy was
        started may be several by now, of several owners, and some of them gone."""
        lock_node, _, nodes = self.ongoing_write_through.pop(ack_id)
        for node in nodes:
            if node.write_through_pending_id == ack_id:
                node.write_through_pending_id = None
            if node.state & LOGICALLY_FREED:
                continue
            self._record_store_event(node, medium=StorageMedium.CPU)
            if self.enable_storage:
                self.write_backup_storage(node)
        if release_lock:
            self.dec_lock_ref(lock_node)
        for node in self._until_written.pop(ack_id, ()):
            self.dec_lock_ref(node)

    def check_hicache_events(self) -> None:
        super().check_hicache_events()
        self.host_frees.check()
        if self.shares is not None:
            self._keep_within_shares()

    # Eviction

    def _keep_within_shares(self) -> None:
        super()._keep_within_shares()
        self._keep_within(self.host_order, self._evict_host_from)

    def _evict_leaf(self, leaf: Node) -> int:
        if leaf.host_value is not None:
            return int(self._evict_backuped(leaf))
        return int(self._evict_regular(leaf))

    def evict_host(self, num_tokens: int) -> None:
        self._evict_host_from(self.host_order.take(), num_tokens)

    def _evict_host_from(self, leaves: Iterator[Node], needed: int, cut_any: bool = False) -> int:
        evicted = 0
        in_use: list[Node] = []
        while evicted < needed and (leaf := next(leaves, None)) is not None:
            if leaf.host_ref_counter:
                in_use.append(leaf)
            else:
                evicted += self._evict_host_leaf(self._tail(leaf, needed - evicted, cut_any))
        for leaf in in_use:
            self.host_order.offer(leaf)
        return evicted

    def _evict_host_leaf(self, leaf: Node) -> int:
        parent = leaf.parent
        assert parent is not None
        assert leaf.host_value is not None
        self._record_remove_event(leaf, medium=StorageMedium.CPU)
        evicted = int(self.cache_controller.evict_host(leaf.host_value))
        leaf.host_value = None
        self._uncount_host(leaf)
        self.evictable_host_leaves.discard(leaf)
        self._detach(leaf)
        self._update_host_leaf_status(parent)
        return evicted

    # Logically freed nodes, and nodes that change hands

    def _leave_sizes(self, node: Node) -> None:
        super()._leave_sizes(node)
        self.evictable_host_leaves.discard(node)
        self._uncount_host(node)

    def _free_logically(self, node: Node) -> None:
        parent = node.parent
        assert parent is not None
        super()._free_logically(node)
        if node.host_value is not None:
            # Requests read the device only: these need not wait for their locks.
            self.host_frees.add(node.host_value)
            node.host_value = None
        self._update_host_leaf_status(parent)

    def _hang(self, child: Node, parent: Node) -> None:
        before = child.parent
        assert before is not None
        if child.host_held:
            before.host_children -= 1
            parent.host_children += 1
        super()._hang(child, parent)
        self._update_host_leaf_status(parent)

    def _give_host_copy(self, node: Node, successor: Node) -> None:
        # A node that the host has must have a parent that the host has, down to the root:
        # what hangs below the successor from now on may rest on this copy.
        if node.host_value is None or successor.host_value is not None:
            return
        self.host_frees.protect(successor)  # loads and backups know of the node alone
        self._uncount_host(node)
        successor.host_value, node.host_value = node.host_value, None
        self._update_host_leaf_status(successor)
        ack = node.write_through_pending_id
        if ack is not None:
            # The copy is still being written: the device must not forget the tokens before.
            self._replace_pending_write_through_node(node, [successor])
            node.write_through_pending_id = None
            self.inc_lock_ref(successor)
            self._until_written.setdefault(ack, []).append(successor)

    def _reindex(self, node: Node, before: str) -> None:
        super()._reindex(node, before)
        self.host_order.move(node, before, node.host_held)

    def _join(self, node: Node, child: Node) -> None:
        super()._join(node, child)
        node.host_held = 0

    # Checks

    def _check_tiers(self) -> None:
        host: dict[str, int] = {}
        slots: set[int] = set()
        for node in walk(self.root_node):
            children = node.children.values()
            assert node.host_children == sum(c.host_value is not None for c in children)
            leaf = node.value is None and not node.lock_ref and not node.host_children
            assert (node in self.evictable_host_leaves) == leaf
            if node.host_value is None:
                continue
            assert len(node.host_value) == len(node.key)
            assert node.parent is not None
            assert node.parent.host_value is not None  # the root has some, too
            host[node.owner] = host.get(node.owner, 0) + len(node.key)
            held = set(node.host_value.tolist())
            assert len(held) == len(node.key), "a host slot twice in one node"
            assert not held & slots, "a host slot in two places"
            slots |= held
        assert host == self.host_order.sizes, (host, self.host_order.sizes)
        free = {leaf for leaf in self.evictable_host_leaves if not leaf.host_ref_counter}
        self._check_share(self.host_order, free)
