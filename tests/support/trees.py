"""Real caches on real pools in this process, upstream's and ours, for step-by-step comparison."""

from __future__ import annotations

import os
from array import array
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from sglang.srt import platforms
from sglang.srt.distributed.parallel_state import (
    init_distributed_environment,
    initialize_model_parallel,
)
from sglang.srt.mem_cache.allocator import TokenToKVPoolAllocator
from sglang.srt.mem_cache.base_prefix_cache import (
    InitLoadBackParams,
    InsertParams,
    MatchPrefixParams,
)
from sglang.srt.mem_cache.cache_init_params import CacheInitParams
from sglang.srt.mem_cache.hiradix_cache import HiRadixCache
from sglang.srt.mem_cache.memory_pool import MHATokenToKVPool, ReqToTokenPool
from sglang.srt.mem_cache.radix_cache import RadixKey, TreeNode
from sglang.srt.server_args import ServerArgs, set_global_server_args_for_scheduler
from sglang.srt.tenancy.cache.adapters.hiradix.hiradix import TenantHiRadixCache
from sglang.srt.tenancy.cache.core.quota import CacheShares
from sglang.srt.tenancy.namespace import Namespace


def _platform() -> Any:
    module: Any = platforms  # found when it is first asked for
    return module.current_platform


def start_group(directory: Path) -> None:
    """One rank's process group, which the hierarchical cache asks for its size."""
    if not torch.distributed.is_initialized():
        rendezvous = f"file://{directory / f'rendezvous-{os.getpid()}'}"
        init_distributed_environment(
            world_size=1, rank=0, distributed_init_method=rendezvous, local_rank=0, backend="gloo"
        )
        initialize_model_parallel()
    _platform().init_backend()


class Tree:
    """A hierarchical cache of one layer, and the requests that hold parts of it."""

    def __init__(
        self,
        *,
        ours: bool,
        device_tokens: int,
        host_ratio: float = 3.0,
        page_size: int = 1,
        weights: Mapping[str, float] | None = None,
        shares: CacheShares | None = None,
        write_policy: str = "write_through",
        mode: str = "isolated",
        context: int = 64,
        device: str = "cpu",
        **options: Any,
    ):
        """``mode``: "shared", "isolated" or "selective"; ``options``: other tenant flags (both
        mean nothing to upstream's). ``context``: tokens of the longest request. ``device``: where
        the pools lie; on another than the CPU with pages of one token."""
        args = ServerArgs(
            model_path="dummy",
            page_size=page_size,
            hicache_ratio=host_ratio,
            hicache_io_backend="direct",
            hicache_mem_layout="layer_first",
            hicache_write_policy=write_policy,
            disable_overlap_schedule=True,
            enable_tenant_cache=ours,
            tenant_mode=mode if ours else "selective",
            **(options if ours else {}),
        )
        set_global_server_args_for_scheduler(args)
        kv = MHATokenToKVPool(
            size=device_tokens,
            page_size=page_size,
            dtype=torch.float32,
            head_num=1,
            head_dim=1,
            layer_num=1,
            device=device,
            enable_memory_saver=False,
        )
        allocator_class: Any = (
            TokenToKVPoolAllocator if page_size == 1 else _platform().get_paged_allocator_cls()
        )
        sizes = (device_tokens,) if page_size == 1 else (device_tokens, page_size)
        self.allocator = allocator_class(*sizes, torch.float32, device, kv, need_sort=False)
        self.rows = ReqToTokenPool(4, context, device, enable_memory_saver=False)
        params = CacheInitParams(
            disable=False,
            req_to_token_pool=self.rows,
            token_to_kv_pool_allocator=self.allocator,
            page_size=page_size,
            tp_cache_group=torch.distributed.group.WORLD,
        )
        self.args, self.params = args, params
        self.cache: HiRadixCache = (
            TenantHiRadixCache(params, args, weights or {}, shares)
            if ours
            else HiRadixCache(params=params, server_args=args)
        )
        self.locks: list[TreeNode] = []

    @staticmethod
    def key(tokens: Sequence[int], user: str | None) -> RadixKey:
        return RadixKey(array("q", tokens), Namespace(user, None) if user else None)

    def match(self, tokens: Sequence[int], user: str | None = None) -> tuple[int, int]:
        """Tokens found on the device, and behind them on the host."""
        found = self.cache.match_prefix(MatchPrefixParams(key=self.key(tokens, user)))
        return len(found.device_indices), found.host_hit_length

    def insert(self, tokens: Sequence[int], user: str | None = None) -> int | None:
        """Serve a prompt as a request does: evict for it, compute, insert, free duplicates.

        Returns the tokens that were there, None where the prompt does not fit.
        """
        from sglang.srt.mem_cache.common import evict_from_tree_cache

        evict_from_tree_cache(self.cache, len(tokens))
        slots = self.allocator.alloc(len(tokens))
        if slots is None:
            return None
        result = self.cache.insert(InsertParams(key=self.key(tokens, user), value=slots))
        self.allocator.free(slots[: result.prefix_len])
        return int(result.prefix_len)

    def load_back(self, tokens: Sequence[int], user: str | None = None) -> int:
        """Bring what the host has of a prompt back to the device. Returns tokens loaded."""
        found = self.cache.match_prefix(MatchPrefixParams(key=self.key(tokens, user)))
        loaded, _ = self.cache.init_load_back(
            InitLoadBackParams(
                best_match_node=found.best_match_node, host_hit_length=found.host_hit_length
            )
        )
        self.cache.ready_to_load_host_cache()
        return len(loaded)

    def lock(self, tokens: Sequence[int], user: str | None = None) -> None:
        found = self.cache.match_prefix(MatchPrefixParams(key=self.key(tokens, user)))
        self.cache.inc_lock_ref(found.last_device_node)
        self.locks.append(found.last_device_node)
        if len(self.locks) > 2:
            self.unlock()

    def unlock(self) -> None:
        if self.locks:
            self.cache.dec_lock_ref(self.locks.pop(0))

    def settle(self) -> None:
        """Let finished transfers be noticed, as the scheduler does once a round."""
        self.cache.writing_check()
        self.cache.loading_check()
        if isinstance(self.cache, TenantHiRadixCache):
            self.cache.core.device_frees.advance()
