"""The slots of upstream's pools, as the policy sees them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch


class PoolMemory:
    """``cache``: one of the tenant caches."""

    def __init__(self, cache: Any):
        self._cache = cache
        self._allocator = cache.token_to_kv_pool_allocator
        self.synchronize = torch.get_device_module(cache.device).synchronize

    def concat(self, parts: Sequence[torch.Tensor]) -> torch.Tensor:
        return torch.cat(list(parts))

    def copy(self, slots: torch.Tensor) -> torch.Tensor:
        return slots.clone()

    def numbers(self, slots: torch.Tensor) -> list[int]:
        return [int(slot) for slot in slots.tolist()]

    def available(self) -> int:
        return int(self._allocator.available_size())

    def free_device(self, slots: torch.Tensor) -> None:
        self._allocator.free_segment(slots, start_pos=0)

    def free_host(self, slots: torch.Tensor) -> None:
        self._cache.cache_controller.evict_host(slots)
