"""Copies between the tiers, and slot allocation, against what they should mean."""

from __future__ import annotations

import pytest
import torch

from sglang.srt.platforms import torch_cpu_hicache
from sglang.srt.platforms.torch_cpu_pools import CpuPagedAllocator

LAYERS, HEADS, WIDTH = 3, 2, 4
# Pages of the device and the host pool, and which of them correspond.
PAGES = 6
DEVICE_PAGES, HOST_PAGES = [4, 1, 2], [5, 0, 3]


def _slots(pages: list[int], page_size: int) -> torch.Tensor:
    return (torch.tensor(pages)[:, None] * page_size + torch.arange(page_size)).flatten()


def _device_layers(page_size: int, pools: int) -> list[torch.Tensor]:
    shape = (PAGES * page_size, HEADS, WIDTH)
    return [torch.randn(shape) for _ in range(pools * LAYERS)]


@pytest.mark.parametrize("page_size", [1, 16, 64])
def test_slots_arrive_and_nothing_else_changes(page_size: int) -> None:
    device = _device_layers(page_size, pools=2)
    host = [torch.zeros_like(layer) for layer in device]
    there, here = _slots(DEVICE_PAGES, page_size), _slots(HOST_PAGES, page_size)
    torch_cpu_hicache.copy_slots(device, host, there, here, page_size)
    for source, target in zip(device, host, strict=True):
        assert torch.equal(target[here], source[there])
        assert target.count_nonzero() == source[there].count_nonzero()


@pytest.mark.parametrize("pools", [1, 2], ids=["latent", "keys and values"])
@pytest.mark.parametrize("page_size", [1, 16, 64])
def test_pages_return_as_they_went(page_size: int, pools: int) -> None:
    device = _device_layers(page_size, pools)
    host = [torch.zeros(PAGES, LAYERS, page_size, HEADS, WIDTH) for _ in range(pools)]
    there, here = _slots(DEVICE_PAGES, page_size), _slots(HOST_PAGES, page_size)
    torch_cpu_hicache.copy_layers_to_pages(device, host, there, here, page_size)

    for pool in range(pools):
        for layer in range(LAYERS):
            source = device[pool * LAYERS + layer]
            first = source[there[:page_size]]
            assert torch.equal(host[pool][HOST_PAGES[0], layer], first)

    for layer in range(LAYERS):
        back = [torch.zeros_like(device[0]) for _ in range(pools)]
        torch_cpu_hicache.copy_layer_from_pages(host, back, here, there, layer, page_size)
        for pool in range(pools):
            source = device[pool * LAYERS + layer]
            assert torch.equal(back[pool][there], source[there])
            assert back[pool].count_nonzero() == source[there].count_nonzero()


def _allocator(page_size: int, pages: int) -> CpuPagedAllocator:
    return CpuPagedAllocator(
        size=pages * page_size,
        page_size=page_size,
        dtype=torch.float32,
        device="cpu",
        kvcache=None,
        need_sort=False,
    )


@pytest.mark.parametrize("page_size", [1, 16])
def test_a_sequence_grows_through_its_pages(page_size: int) -> None:
    """Token i of a sequence lies at place `i % page_size` of its page."""
    allocator = _allocator(page_size, pages=8)
    none, length = torch.tensor([0]), torch.tensor([page_size + 1])
    slots = allocator.alloc_extend(none, none, length, length, torch.tensor([-1]), page_size + 1)
    assert slots is not None
    row = slots.tolist()
    while len(row) < 4 * page_size:
        length = torch.tensor([len(row) + 1])
        slots = allocator.alloc_decode(length, length, torch.tensor([row[-1]]))
        assert slots is not None
        row += slots.tolist()
    assert len(set(row)) == len(row)
    for position, slot in enumerate(row):
        assert slot % page_size == position % page_size
        assert slot // page_size == row[position - position % page_size] // page_size


def test_full_pool_refuses_and_keeps_its_pages() -> None:
    allocator = _allocator(page_size=4, pages=2)
    none, length = torch.tensor([0]), torch.tensor([12])
    before = allocator.available_size()
    assert allocator.alloc_extend(none, none, length, length, torch.tensor([-1]), 12) is None
    assert allocator.available_size() == before
