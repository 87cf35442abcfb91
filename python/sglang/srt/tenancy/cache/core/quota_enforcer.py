"""Have whoever holds more than their ``cache_share`` give it at once, and nobody else for them.

What running requests lock counts, and is never taken away: a user whose requests fill the share
keeps nothing else.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from sglang.srt.tenancy.cache.core.evictor import DeviceEvictor, HostEvictor
from sglang.srt.tenancy.cache.core.quota import CacheShares


class QuotaEnforcer:
    """``shares``: None where all may hold all that they can."""

    def __init__(
        self,
        evictors: Sequence[DeviceEvictor | HostEvictor],
        page_size: int,
        weights: Mapping[str, float],
        shares: CacheShares | None,
        counts: Counter[str],
    ):
        self._evictors = evictors
        self._page_size = page_size
        self._counts = counts
        self.weights = weights
        self.shares = shares

    def enforce(self) -> None:
        """Take from each owner who holds too much of a tier their oldest leaves.

        To be called after everything by which somebody may come to hold more, or unlock it.
        """
        if self.shares is None:
            return
        for evictor in self._evictors:
            self._enforce(evictor)

    def _enforce(self, evictor: DeviceEvictor | HostEvictor) -> None:
        order = evictor.order
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
                taken = evictor.evict_from(order.take_of(owner), excess, cut_any=True)
                self._counts["tokens_over_share"] += taken

    def redivide(self, weights: Mapping[str, float], shares: CacheShares | None) -> None:
        """Replace the weights and the most that each owner may hold, on all tiers; whoever holds
        more now gives it at once. Raises ValueError, and changes nothing, for a share that is
        less than a page of a tier."""
        self.check(shares or CacheShares())
        self.weights, self.shares = weights, shares or None
        for evictor in self._evictors:
            evictor.order.redivide(weights, self.shares)
        self.enforce()

    def check(self, shares: CacheShares) -> None:
        """Raise ValueError for a share that is less than a page of a tier."""
        for evictor in self._evictors:
            shares.check(evictor.order.capacity, self._page_size)
