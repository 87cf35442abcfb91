"""The device-only tenant cache."""

from __future__ import annotations

import torch

from sglang.srt.mem_cache.base_prefix_cache import MatchResult
from sglang.srt.tenancy.cache.adapters.hiradix.tenant_cache import TenantCache
from sglang.srt.tenancy.cache.adapters.hiradix.transfers import DeviceOnly
from sglang.srt.tenancy.cache.core.erasure import NoStorage
from sglang.srt.tenancy.cache.core.node import Node


class TenantRadixCache(TenantCache):
    """Upstream's ``RadixCache`` with owners."""

    def _host_size(self) -> None:
        return None

    def _new_transfers(self) -> DeviceOnly:
        return DeviceOnly(self)

    def _stored_pages(self) -> NoStorage:
        return NoStorage()

    def _result(self, indices: torch.Tensor, node: Node) -> MatchResult:
        return MatchResult(
            device_indices=indices,
            last_device_node=node,
            last_host_node=node,
            best_match_node=node,
        )
