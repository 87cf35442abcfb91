"""The device-only tenant cache."""

from __future__ import annotations

from sglang.srt.tenancy.cache.check import Checked
from sglang.srt.tenancy.cache.idle import IdleExpiry
from sglang.srt.tenancy.cache.within_share import WithinShare


class TenantRadixCache(Checked, IdleExpiry, WithinShare):
    """Upstream's ``RadixCache`` with owners: ``tree.py`` and the rooms above it."""
