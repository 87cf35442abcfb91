"""The device-only tenant cache."""

from __future__ import annotations

from sglang.srt.tenancy.cache.scope import ScopedInsert


class TenantRadixCache(ScopedInsert):
    """Upstream's radix cache, whose keys carry their owner (``ownership.Namespace``)."""
