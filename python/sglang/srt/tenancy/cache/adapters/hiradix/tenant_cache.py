"""What the scheduler and upstream's own code call, bound to the policy.

Goes before one of upstream's radix caches. Each method here is defined in no other class of ours.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from sglang.srt.mem_cache.base_prefix_cache import (
    DecLockRefParams,
    DecLockRefResult,
    EvictParams,
    EvictResult,
    IncLockRefResult,
    InsertParams,
    InsertResult,
    MatchPrefixParams,
    MatchResult,
)
from sglang.srt.mem_cache.radix_cache import RadixCache, RadixKey
from sglang.srt.tenancy.cache.adapters.hiradix.events import KVEventPublisher
from sglang.srt.tenancy.cache.adapters.hiradix.memory import PoolMemory
from sglang.srt.tenancy.cache.adapters.hiradix.requests import RequestInserter
from sglang.srt.tenancy.cache.adapters.hiradix.shared_secret import shared_secret
from sglang.srt.tenancy.cache.core.cache import Engine, Lasting, OwnedCache, TierSize
from sglang.srt.tenancy.cache.core.check import digest
from sglang.srt.tenancy.cache.core.erasure import Erased, StoredPages
from sglang.srt.tenancy.cache.core.interfaces import Transfers
from sglang.srt.tenancy.cache.core.node import Node
from sglang.srt.tenancy.cache.core.options import PolicyOptions
from sglang.srt.tenancy.cache.core.order import EvictionOrder
from sglang.srt.tenancy.cache.core.quota import CacheShares
from sglang.srt.tenancy.usage import UsageCounter

if TYPE_CHECKING:
    from sglang.srt.managers.schedule_batch import Req
    from sglang.srt.mem_cache.cache_init_params import CacheInitParams
    from sglang.srt.tenancy.cache.adapters.hiradix.zeroize import Zeroizer
    from sglang.srt.tenancy.flags import TenantOptions


class TenantCache(RadixCache):
    """A cache with owners.

    ``core``: the policy, anew after each flush. ``usage``: what users took, since the start.
    """

    core: OwnedCache
    usage: UsageCounter
    root_node: Any
    zeroizer: Zeroizer | None = None
    new_order: Callable[..., EvictionOrder] = EvictionOrder

    def __init__(
        self,
        params: CacheInitParams,
        options: TenantOptions,
        weights: Mapping[str, float],
        shares: CacheShares | None = None,
        **upstream: Any,
    ):
        self._options = policy_options(options)
        secret = shared_secret(params.tp_cache_group) if self._options.votes else b""
        self._lasting = Lasting(params.page_size, self._options, secret)
        self._division = weights, shares or None
        self.usage = UsageCounter(weights.keys())
        self._report_cached = options.tenant_report_cached
        self.events = KVEventPublisher(self, options.tenant_publish_private_events)
        super().__init__(params=params, **upstream)

    def reset(self) -> None:
        super().reset()
        self.no_slots = torch.empty(0, dtype=torch.int64, device=self.device)
        self.core = OwnedCache(
            self._engine(), self._options, self._lasting, *self._division, self.new_order
        )
        self._tree = self.core.tree
        self.root_node = root = self._tree.root
        self._requests = RequestInserter(self, self.core, self.usage, self._report_cached)
        self._empty_match_result: MatchResult = self._empty_match_result._replace(
            last_device_node=root, last_host_node=root, best_match_node=root
        )

    def _engine(self) -> Engine:
        return Engine(
            page_size=self.page_size,
            new_key=RadixKey,
            empty=self.no_slots,
            root_priority=self.root_node.priority,
            priority=self.eviction_strategy.get_priority,
            device=TierSize(self.token_to_kv_pool_allocator.size, self.evictable_leaves),
            host=self._host_size(),
            memory=PoolMemory(self),
            transfers=self._new_transfers(),
            events=self.events,
            storage=self._stored_pages(),
        )

    def _host_size(self) -> TierSize | None:
        raise NotImplementedError

    def _new_transfers(self) -> Transfers:
        raise NotImplementedError

    def _stored_pages(self) -> StoredPages:
        raise NotImplementedError

    def _result(self, indices: torch.Tensor, node: Node) -> MatchResult:
        raise NotImplementedError

    # Upstream's sizes are the policy's

    @property
    def evictable_size_(self) -> int:
        return self.core.device.evictable

    @evictable_size_.setter
    def evictable_size_(self, tokens: int) -> None:
        if hasattr(self, "core"):  # upstream clears it before there is one
            self.core.device.evictable = tokens

    @property
    def protected_size_(self) -> int:
        return self.core.device.protected

    @protected_size_.setter
    def protected_size_(self, tokens: int) -> None:
        if hasattr(self, "core"):
            self.core.device.protected = tokens

    def protected_size(self) -> int:
        # Upstream's leak check wants each slot free, evictable or protected.
        return self.core.protected_size()

    # What the scheduler calls for a request

    def match_prefix(self, params: MatchPrefixParams) -> MatchResult:
        """Find the longest prefix of the key that its owner may see, on all tiers."""
        end = len(params.key) // self.page_size * self.page_size
        if self.disable or not end:
            return self._empty_match_result
        values, node = self._tree.match(params.key, end)
        return self._result(torch.cat(values) if values else self.no_slots, node)

    def insert(self, params: InsertParams) -> InsertResult:
        """Put a computed prefix into the tree, for the owner that its key names.

        ``value``: device slots, int64, at least one for each token of whole pages.
        ``prefix_len`` of the result: tokens that were on the device already; the slots given
        for them are the caller's to free.
        """
        if self.disable:
            return InsertResult(prefix_len=0)
        held, node = self.core.insert(
            params.key, params.value, params.priority or 0, params.chunked
        )
        return InsertResult(prefix_len=held, last_device_node=node)

    def cache_unfinished_req(self, req: Req, chunked: bool = False) -> None:
        if self.disable:
            return
        self._requests.insert_unfinished(req, chunked)
        self.core.quota.enforce()

    def cache_finished_req(
        self, req: Req, is_insert: bool = True, *, kv_len_to_handle: int, **_: Any
    ) -> None:
        if self.disable:
            super().cache_finished_req(req, is_insert, kv_len_to_handle=kv_len_to_handle)
            return
        self._requests.insert_finished(req, is_insert, kv_len_to_handle)
        self.core.quota.enforce()

    def inc_lock_ref(self, node: Node) -> IncLockRefResult:
        """Keep a node and all above it from eviction."""
        return IncLockRefResult(delta=self.core.lock(node))

    def dec_lock_ref(self, node: Node, params: DecLockRefParams | None = None) -> DecLockRefResult:
        """Give back one ``inc_lock_ref`` of the same node."""
        return DecLockRefResult(delta=self.core.unlock(node))

    def evict(self, params: EvictParams) -> EvictResult:
        if self.disable:
            return EvictResult()
        started = time.perf_counter()
        evicted = self.core.evictor.evict(params.num_tokens)
        self.update_eviction_metrics(evicted, started)
        return EvictResult(num_tokens_evicted=evicted)

    def _record_store_event(self, node: Node, medium: Any = None) -> None:
        if self.events.is_announced(node):
            super()._record_store_event(node, medium)

    def _record_remove_event(self, node: Node, medium: Any = None) -> None:
        if self.events.is_announced(node):
            super()._record_remove_event(node, medium)

    # What operators and detectors ask for

    def publish(self, tokens: Sequence[int]) -> None:
        """As ``OwnedCache.publish``."""
        self.core.publish(tokens)

    def withdraw(self, tokens: Sequence[int]) -> None:
        """As ``OwnedCache.withdraw``."""
        self.core.withdraw(tokens)

    def apply_scan_result(self, key: RadixKey, harmless: int, sensitive: int | None) -> None:
        """As ``SharingPolicy.apply_scan_result``."""
        self.core.apply_scan_result(key, harmless, sensitive)

    def erase(self, user: str, requests: Iterable[Req] = ()) -> Erased:
        """Free all that is private to a user, on every tier.

        ``requests``: those that the scheduler has now. The user's go on, and insert nothing more.
        """
        for req in requests:
            if req.user_id == user:
                req.cache_scope = "none"
        self.usage.forget(user)
        return self.core.erase(user)

    def tick(self, seconds: int, requests: Iterable[Req] = ()) -> int:
        """As ``IdleExpiry.tick``. ``requests``: those that the scheduler has now."""
        return self.core.idle.tick(seconds, (req.user_id for req in requests))

    def redivide(self, weights: Mapping[str, float], shares: CacheShares | None) -> None:
        """As ``QuotaEnforcer.redivide``."""
        self.core.quota.redivide(weights, shares)
        self._division = weights, shares or None
        self.usage.name(weights.keys())

    def sanity_check(self) -> None:
        """Raise AssertionError where an invariant does not hold."""
        self.core.sanity_check()

    def digest(self) -> str:
        """Hash all that was decided so far: equal on all ranks after equal messages."""
        return digest(self.core.tree)


def policy_options(options: TenantOptions) -> PolicyOptions:
    """Read the policy's options from the server's arguments."""
    return PolicyOptions(
        mode=options.tenant_mode,
        public_users=options.tenant_public_users,
        epoch_requests=options.tenant_epoch_requests,
        detector=options.tenant_detector,
        rdr_threshold=options.tenant_rdr_threshold,
        rdr_min_hits=options.tenant_rdr_min_hits,
        quarantine_epochs=options.tenant_quarantine_epochs,
        idle_ttl=options.tenant_idle_ttl or None,
        promotion=options.tenant_promotion,
        # Each data-parallel rank has a tree, and a budget, of its own; users come to all.
        dp_epsilon=options.tenant_dp_epsilon / int(getattr(options, "dp_size", 1)),
        dp_delta=options.tenant_dp_delta / int(getattr(options, "dp_size", 1)),
        dp_votes=options.tenant_dp_votes,
        dp_window=options.tenant_dp_window,
        dp_period=options.tenant_dp_period,
        # dfs-weight matches all that wait, then walks the tree to find them at the nodes where
        # their matches ended: whoever waits at a node that was joined meanwhile would be lost.
        join_chains=getattr(options, "schedule_policy", None) != "dfs-weight",
        batches_ahead=_batches_ahead(options),
    )


def _batches_ahead(options: Any) -> int:
    """Count how many batches may have been launched whose results were not looked at."""
    stages = int(getattr(options, "pp_size", 1))
    if stages > 1:
        return 2 * stages
    return 0 if getattr(options, "disable_overlap_schedule", False) else 1
