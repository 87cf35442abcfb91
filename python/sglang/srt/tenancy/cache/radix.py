"""The device-only tenant cache."""

from __future__ import annotations

from sglang.srt.mem_cache.radix_cache import RadixCache
from sglang.srt.tenancy.cache.scope import ScopedInsert


class TenantRadixCache(ScopedInsert, RadixCache):
    """Upstream's radix cache, whose keys carry their owner (``ownership.Namespace``)."""
