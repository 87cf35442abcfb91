"""The device-only tenant cache."""

from __future__ import annotations

from sglang.srt.tenancy.cache.check import Checked
from sglang.srt.tenancy.cache.erasure import Erasing
from sglang.srt.tenancy.cache.within_share import WithinShare


class TenantRadixCache(Checked, Erasing, WithinShare):
    """Upstream's ``RadixCache`` with owners: ``tree.py`` and the rooms above it."""
