"""The hierarchical tenant cache: device, host and storage."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch

from sglang.srt.mem_cache.base_prefix_cache import MatchPrefixParams, MatchResult
from sglang.srt.mem_cache.hiradix_cache import HiRadixCache
from sglang.srt.mem_cache.radix_cache import RadixKey
from sglang.srt.tenancy.cache.adapters.hiradix.hashes import ensure_hashes
from sglang.srt.tenancy.cache.adapters.hiradix.storage import OwnedStorage
from sglang.srt.tenancy.cache.adapters.hiradix.storage_erasure import StorageErasure
from sglang.srt.tenancy.cache.adapters.hiradix.tenant_cache import TenantCache
from sglang.srt.tenancy.cache.adapters.hiradix.transfers import HostTransfers
from sglang.srt.tenancy.cache.core.cache import TierSize
from sglang.srt.tenancy.cache.core.node import LOGICALLY_FREED, Node, walk
from sglang.srt.tenancy.cache.core.quota import CacheShares

if TYPE_CHECKING:
    from sglang.srt.mem_cache.cache_init_params import CacheInitParams
    from sglang.srt.server_args import ServerArgs


class TenantHiRadixCache(TenantCache, HiRadixCache):
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
        self._storage = OwnedStorage(self)
        self._erasure = StorageErasure(self)
        super().__init__(params, server_args, weights, shares, server_args=server_args)
        self._ask_storage_by_owner()

    # What the policy needs to know

    def _host_size(self) -> TierSize:
        return TierSize(self.token_to_kv_pool_host.size, self.evictable_host_leaves)

    def _new_transfers(self) -> HostTransfers:
        self._transfers = HostTransfers(self)
        return self._transfers

    def _stored_pages(self) -> StorageErasure:
        self._erasure.all_writes_ended()
        return self._erasure

    def _result(self, indices: torch.Tensor, node: Node) -> MatchResult:
        on_device = on_host = node
        host_hit = 0
        while on_device.value is None:
            host_hit += len(on_device.host_value)
            assert on_device.parent is not None
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

    # Transfers

    def write_backup(self, node: Node, write_back: bool = False) -> int:
        written = int(super().write_backup(node, write_back))
        if written:
            self.core.tree.host.update(node)
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
            tree = self.core.tree
            for back in absent:  # the deepest first: a parent counts its children
                tree.device.update(back)
                tree.host.update(back)
            tree.device.update(walker)
        return loaded

    def _finish_write_through_ack(self, ack_id: int, *, release_lock: bool) -> None:
        self._transfers.finish_write(ack_id, release_lock=release_lock)

    def check_hicache_events(self) -> None:
        super().check_hicache_events()
        self.core.host_frees.check()
        self.core.quota.enforce()
        self._erasure.check()

    def evict_host(self, num_tokens: int) -> None:
        assert self.core.host_evictor is not None
        self.core.host_evictor.evict(num_tokens)

    # Storage

    def match_prefix(self, params: MatchPrefixParams) -> MatchResult:
        self._storage.requester = params.req if self.enable_storage else None
        return super().match_prefix(params)

    def get_last_hash_value(self, node: Node) -> str | None:
        ensure_hashes(node, self.page_size)
        return node.get_last_hash_value()

    def prefetch_from_storage(
        self,
        req_id: str,
        last_host_node: Node,
        new_input_tokens: Any,
        last_hash: str | None = None,
        prefix_keys: list[str] | None = None,
    ) -> None:
        self._storage.prefetch(req_id, last_host_node, new_input_tokens, last_hash, prefix_keys)

    def attach_storage_backend(self, *args: Any, **kwargs: Any) -> tuple[bool, str]:
        if kwargs.get("hicache_write_policy") == "write_back":
            return False, (
                "hicache_write_policy: write_back is not supported with --enable-tenant-cache; "
                "use write_through or write_through_selective"
            )
        if not self.events.has_names():
            # Scopes may have changed while nobody had use for names.
            for node in walk(self.root_node):
                node.hash_value = None
        attached: tuple[bool, str] = super().attach_storage_backend(*args, **kwargs)
        self._ask_storage_by_owner()
        return attached

    def _ask_storage_by_owner(self) -> None:
        self.cache_controller._storage_hit_query = self._storage.find

    def check_prefetch_progress(self, req_id: str) -> bool:
        """Tell whether a request need not wait for storage; what was fetched is in the tree."""
        done = bool(super().check_prefetch_progress(req_id))
        self.core.quota.enforce()
        return done

    def detach_storage_backend(self) -> tuple[bool, str]:
        detached: tuple[bool, str] = super().detach_storage_backend()
        self.core.quota.enforce()  # what was being backed up can be evicted again
        return detached

    def _insert_helper_host(
        self, anchor: Node, key: RadixKey, host_value: torch.Tensor, hash_value: list[str]
    ) -> int:
        return self._storage.insert_fetched(anchor, key, host_value)

    def write_backup_storage(self, node: Node, backup_len: int | None = None) -> None:
        if node.state & LOGICALLY_FREED:
            return  # what took its place is written under its own names
        ensure_hashes(node, self.page_size)
        super().write_backup_storage(node, backup_len)
