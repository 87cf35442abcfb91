"""The device-only tenant cache."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from sglang.srt.tenancy.cache.eviction import FairEviction
from sglang.srt.tenancy.cache.scope import ScopedInsert

if TYPE_CHECKING:
    from sglang.srt.mem_cache.cache_init_params import CacheInitParams


class TenantRadixCache(ScopedInsert, FairEviction):
    """Upstream's radix cache, whose keys carry their owner (``ownership.Namespace``)."""

    def __init__(self, params: CacheInitParams, weights: Mapping[str, float]):
        self.weights = weights
        super().__init__(params)
