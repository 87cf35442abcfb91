"""The device-only tenant cache."""

from __future__ import annotations

from sglang.srt.tenancy.cache.check import Checked
from sglang.srt.tenancy.cache.eviction import FairEviction


class TenantRadixCache(Checked, FairEviction):
    """Upstream's ``RadixCache`` with owners: ``tree.py`` and the rooms above it."""
