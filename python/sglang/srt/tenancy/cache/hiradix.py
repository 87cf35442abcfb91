"""The hierarchical tenant cache: device and host."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from sglang.srt.tenancy.cache.eviction import FairHostEviction
from sglang.srt.tenancy.cache.scope import ScopedInsert

if TYPE_CHECKING:
    from sglang.srt.mem_cache.cache_init_params import CacheInitParams
    from sglang.srt.server_args import ServerArgs


class TenantHiRadixCache(ScopedInsert, FairHostEviction):
    """Upstream's hierarchical cache, whose keys carry their owner (``ownership.Namespace``)."""

    def __init__(
        self, params: CacheInitParams, server_args: ServerArgs, weights: Mapping[str, float]
    ):
        self.weights = weights
        self._isolated = server_args.tenant_mode == "isolated"
        super().__init__(params=params, server_args=server_args)

    def attach_storage_backend(self, *args: Any, **kwargs: Any) -> tuple[bool, str]:
        if self._isolated:
            # Storage keys hash tokens only: one user's pages would answer another's.
            return False, "storage is refused in --tenant-mode isolated: its keys carry no owner"
        attached: tuple[bool, str] = super().attach_storage_backend(*args, **kwargs)
        return attached
