"""What the hierarchical cache lacks on a CPU: a host pool and its copies.

Both tiers lie in the same memory here, so a transfer is an index copy.

Slot indices come page by page, aligned: `indices[i * page_size]` begins a page
and the following `page_size - 1` entries count up from it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import psutil
import torch

from sglang.srt.mem_cache.pool_host import base, common, mha, mla

# A tenth of the machine's memory is not for the host pool.
_RESERVED = 10


def install() -> None:
    """Register the host allocation and put the copies where SGLang calls them."""
    common.ALLOC_MEMORY_FUNCS["cpu"] = _allocate_unpinned
    # SGLang leaves 10 GiB of host memory alone: more than many a CPU host has.
    limits: Any = base
    limits.HICACHE_HOST_MEMORY_RESERVE_BYTES = psutil.virtual_memory().total // _RESERVED
    # Pages on their way from storage would be pinned too: a pool here never is.
    pool: Any = base.HostKVCache
    pool.pin_memory = property(lambda self: False, lambda self, asked: None)
    # SGLang binds these names from its CUDA kernels at import, and binds
    # nothing elsewhere: there is no hook to supply them through.
    modules: tuple[Any, ...] = (mha, mla)
    for module in modules:
        module.transfer_kv_direct = copy_slots
        module.transfer_kv_per_layer_direct_pf_lf = copy_layer_from_pages
        module.transfer_kv_all_layer_direct_lf_pf = copy_layers_to_pages


def _allocate_unpinned(
    dims: tuple[int, ...],
    dtype: torch.dtype,
    device: str,
    pin_memory: bool,
    allocator: common.HostTensorAllocator,
) -> torch.Tensor:
    # Pinning serves a device's own reads of host memory; there is no device.
    return allocator.allocate(dims, dtype=dtype, device=device)


def copy_slots(
    src_layers: Sequence[torch.Tensor],
    dst_layers: Sequence[torch.Tensor],
    src_indices: torch.Tensor,
    dst_indices: torch.Tensor,
    page_size: int,
) -> None:
    """Copy slots between layer-first pools, `[slots, ...]` per layer.

    SGLang sorts the slots of one side, and with pages that tears none apart:
    slot i still goes to slot i. So the page size plays no part.
    """
    for src, dst in zip(src_layers, dst_layers, strict=True):
        dst.index_copy_(0, dst_indices, src.index_select(0, src_indices))


def copy_layer_from_pages(
    src_ptrs: Sequence[torch.Tensor],
    dst_ptrs: Sequence[torch.Tensor],
    src_indices: torch.Tensor,
    dst_indices: torch.Tensor,
    layer_id: int,
    page_size: int,
) -> None:
    """Copy one layer from `[pages, layers, page_size, ...]` to `[slots, ...]`."""
    pages = _page_numbers(src_indices, page_size)
    for src, dst in zip(src_ptrs, dst_ptrs, strict=True):
        rows = src[pages, layer_id].flatten(0, 1)
        dst.index_copy_(0, dst_indices, rows)


def copy_layers_to_pages(
    src_ptrs: Sequence[torch.Tensor],
    dst_ptrs: Sequence[torch.Tensor],
    src_indices: torch.Tensor,
    dst_indices: torch.Tensor,
    page_size: int,
) -> None:
    """Copy all layers from `[slots, ...]` to `[pages, layers, page_size, ...]`.

    `src_ptrs` lists every layer for the first pool of `dst_ptrs`, then every
    layer for the next (keys, then values).
    """
    pages = _page_numbers(dst_indices, page_size)
    layers = len(src_ptrs) // len(dst_ptrs)
    for position, src in enumerate(src_ptrs):
        pool, layer = divmod(position, layers)
        rows = src.index_select(0, src_indices)
        dst_ptrs[pool][pages, layer] = rows.unflatten(0, (-1, page_size))


def _page_numbers(indices: torch.Tensor, page_size: int) -> torch.Tensor:
    return indices[::page_size] // page_size
