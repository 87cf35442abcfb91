"""Whoever holds more than their ``cache_share`` gives way at once, and nobody else for them.

What running requests lock counts, and is never taken away: a user whose requests fill the share
keeps nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from sglang.srt.mem_cache.base_prefix_cache import (
    DecLockRefParams,
    DecLockRefResult,
    InsertParams,
    InsertResult,
)
from sglang.srt.tenancy.cache.core.node import Node
from sglang.srt.tenancy.cache.core.order import EvictionOrder
from sglang.srt.tenancy.cache.core.quota import CacheShares
from sglang.srt.tenancy.cache.eviction import FairEviction

if TYPE_CHECKING:
    from sglang.srt.managers.schedule_batch import Req


class WithinShare(FairEviction):
    """Enforce the shares after every call by which somebody may come to hold more, or unlock it."""

    def _keep_within_shares(self) -> None:
        self._keep_within(self.device_order, self._evict_from)

    def _keep_within(
        self,
        order: EvictionOrder,
        evict: Callable[[Iterator[Node], int, bool], int],
    ) -> None:
        """Have each owner who holds too much of a tier give their oldest leaves."""
        quota = order.quota
        if quota is None or not quota.exceeded:
            return
        owners = list(quota.exceeded)
        quota.exceeded.clear()
        for owner in owners:
            allowed = quota.of(owner)
            assert allowed is not None
            excess = order.sizes.get(owner, 0) - allowed
            if excess > 0:
                self.count("tokens_over_share", evict(order.take_of(owner), excess, True))

    def redivide(self, weights: Mapping[str, float], shares: CacheShares | None) -> None:
        """Replace the weights and the most that each owner may hold, on all tiers; whoever holds
        more now gives it at once. Raises ValueError, and changes nothing, for a share that is
        less than a page of a tier."""
        for order in self._orders():
            (shares or CacheShares()).check(order.capacity, self.page_size)
        self.weights, self.shares = weights, shares or None
        for order in self._orders():
            order.redivide(weights, self.shares)
        self._keep_within_shares()

    # Calls after which somebody may hold more

    def insert(self, params: InsertParams) -> InsertResult:
        result = super().insert(params)
        if self.shares is not None:
            self._keep_within_shares()
        return result

    def cache_unfinished_req(self, req: Req, chunked: bool = False) -> None:
        super().cache_unfinished_req(req, chunked)
        if self.shares is not None:
            self._keep_within_shares()

    def cache_finished_req(self, req: Req, is_insert: bool = True, **more: Any) -> None:
        super().cache_finished_req(req, is_insert, **more)
        if self.shares is not None:
            self._keep_within_shares()

    def dec_lock_ref(self, node: Node, params: DecLockRefParams | None = None) -> DecLockRefResult:
        result = super().dec_lock_ref(node, params)
        if self.shares is not None:
            self._keep_within_shares()
        return result

    def judge(self, *args: Any) -> None:
        """What is merged away unlocks what it hung below."""
        super().judge(*args)
        if self.shares is not None:
            self._keep_within_shares()

    def withdraw(self, *args: Any) -> None:
        """What ceases to be public counts for its owner again."""
        super().withdraw(*args)
        if self.shares is not None:
            self._keep_within_shares()
