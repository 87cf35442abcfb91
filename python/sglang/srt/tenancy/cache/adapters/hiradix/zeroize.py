"""Overwrite KV slots with zeros before they are free (``--tenant-zeroize``).

It happens where slots are really given back: at the allocator of the device and the pool of the
host. So every slot is overwritten, whoever's it was and whatever freed it (erasure, expiry,
eviction, merging, the end of a request), and none while a request still reads it.
"""

from __future__ import annotations

from typing import Any

import torch

from sglang.srt.mem_cache.allocator import PagedTokenToKVPoolAllocator, TokenToKVPoolAllocator

_LAYOUTS_BY_PAGE = ("page_first_direct", "page_head", "page_first_kv_split")


def zeroize_freed_slots(cache: Any) -> Zeroizer:
    """Have a cache's pools overwrite what they get back.

    Raises ValueError for a pool whose bytes cannot all be told apart by slot.
    """
    allocator = cache.token_to_kv_pool_allocator
    zeroizer = Zeroizer(allocator.get_kvcache(), allocator.page_size)
    zeroizer.watch(allocator)
    host = getattr(cache, "token_to_kv_pool_host", None)
    if host is not None:
        zeroizer.load_stream = cache.cache_controller.load_stream
        _watch_host(host, _host_buffers(host))
    return zeroizer


class Zeroizer:
    """Overwrites slots of a device pool.

    ``forward_stream``: where the model runs, None where it runs in order with all else. A step
    that was launched before may still write to a slot that is given back, and the next one may
    get it, so the overwriting comes between them. ``load_stream``: copies from the host
    come after it, too.
    """

    def __init__(self, pool: Any, page_size: int):
        self.forward_stream: Any = None
        self.load_stream: Any = None
        self._page_size = page_size
        self._buffers = _device_buffers(pool)

    def watch(self, allocator: Any) -> None:
        """Hook into the one place of an allocator where slots become free."""
        if isinstance(allocator, PagedTokenToKVPoolAllocator):
            release_pages = allocator._release_page_ids

            def release(*pages: torch.Tensor) -> None:
                self.overwrite_pages(torch.cat(pages))
                release_pages(*pages)

            allocator._release_page_ids = release
        elif isinstance(allocator, TokenToKVPoolAllocator):
            free_slots = allocator.free

            def free(slots: torch.Tensor) -> None:
                if allocator.is_not_in_free_group and slots.numel():
                    self.overwrite(slots)
                free_slots(slots)

            allocator.free = free
        else:
            raise ValueError(
                f"--tenant-zeroize does not know how {type(allocator).__name__} frees slots; "
                "start without it"
            )
        clear_all = allocator.clear

        def clear() -> None:
            clear_all()
            self.overwrite_pages(allocator.free_pages)

        allocator.clear = clear

    def overwrite_pages(self, pages: torch.Tensor) -> None:
        first = pages.to(torch.int64)[:, None] * self._page_size
        self.overwrite((first + torch.arange(self._page_size, device=pages.device)).flatten())

    def overwrite(self, slots: torch.Tensor) -> None:
        """Write zeros, after every step that was launched and before every later one."""
        slots = slots.to(torch.int64)
        if self.forward_stream is None or slots.device.type == "cpu":
            self._fill(slots)
            return
        device = torch.get_device_module(slots.device)
        self.forward_stream.wait_stream(device.current_stream())  # which made ``slots``
        with device.stream(self.forward_stream):
            self._fill(slots)
        slots.record_stream(self.forward_stream)
        if self.load_stream is not None:
            self.load_stream.wait_stream(self.forward_stream)

    def _fill(self, slots: torch.Tensor) -> None:
        for buffer in self._buffers:
            buffer.index_fill_(0, slots, 0)


def _device_buffers(pool: Any) -> list[torch.Tensor]:
    """Return all tensors of a pool that hold something of each slot."""
    found = []
    for name, value in vars(pool).items():
        for tensor in value if isinstance(value, (list, tuple)) else (value,):
            if not isinstance(tensor, torch.Tensor) or tensor.dim() < 2:
                continue  # addresses and strides
            if tensor.shape[0] != pool.size + pool.page_size:
                raise ValueError(
                    f"--tenant-zeroize does not know the layout of {type(pool).__name__}.{name}; "
                    "start without it"
                )
            found.append(tensor)
    if not found:
        raise ValueError(
            f"--tenant-zeroize finds no buffers in {type(pool).__name__}; start without it"
        )
    return found


def _host_buffers(pool: Any) -> list[tuple[torch.Tensor, int]]:
    """Return the tensors of a host pool, each with its dimension of slots, or of pages."""
    by_page = pool.layout in _LAYOUTS_BY_PAGE
    tensors = {}
    for name in ("kv_buffer", "k_buffer", "v_buffer", "index_k_buffer"):
        tensor = vars(pool).get(name)
        if isinstance(tensor, torch.Tensor):
            tensors[tensor.data_ptr()] = tensor
    found = []
    for tensor in tensors.values():
        # (keys and values, unless they are apart or one), layers and slots in either order, heads,
        # dimensions; by page one more.
        dim = tensor.dim() - (5 if by_page else 4) + (pool.layout == "layer_first")
        if tensor.shape[dim] != (pool.page_num if by_page else pool.size):
            raise ValueError(
                f"--tenant-zeroize does not know the host layout {pool.layout!r} of "
                f"{type(pool).__name__}; start without it"
            )
        found.append((tensor, dim))
    return found


def _watch_host(pool: Any, buffers: list[tuple[torch.Tensor, int]]) -> None:
    by_page = pool.layout in _LAYOUTS_BY_PAGE
    free_slots, clear_all = pool.free, pool.clear

    def overwrite(slots: torch.Tensor) -> None:
        rows = pool.dcp_kernel_indices(slots.cpu())
        if by_page:
            rows = torch.unique(rows // pool.page_size)
        for buffer, dim in buffers:
            buffer.index_fill_(dim, rows, 0)

    def free(slots: torch.Tensor) -> int:
        overwrite(slots)
        freed: int = free_slots(slots)
        return freed

    def clear() -> None:
        overwrite(pool.slot_used.nonzero().flatten())
        clear_all()

    pool.free, pool.clear = free, clear
