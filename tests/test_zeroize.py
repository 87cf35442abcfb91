"""--tenant-zeroize: what is free holds no bytes of anybody's prompt."""

from __future__ import annotations

from array import array
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from support.engine import Engine, Setting, Task, stamps
from support.trees import start_group

from sglang.srt.mem_cache.allocator import TokenToKVPoolAllocator
from sglang.srt.mem_cache.memory_pool import MHATokenToKVPool, MLATokenToKVPool
from sglang.srt.mem_cache.pool_host.mha import MHATokenToKVPoolHost
from sglang.srt.mem_cache.pool_host.mla import MLATokenToKVPoolHost
from sglang.srt.tenancy.cache.adapters.hiradix.zeroize import zeroize_freed_slots

PROMPTS = {"ann": array("q", range(100, 140)), "ben": array("q", range(200, 240))}


@pytest.fixture(autouse=True, scope="module")
def _group(tmp_path_factory: pytest.TempPathFactory) -> None:
    start_group(tmp_path_factory.mktemp("group"))


def engine(page: int, *, host: bool) -> Engine:
    on = Engine(Setting(page_size=page, host=host, detector="none", device_tokens=512))
    zeroize_freed_slots(on.cache)
    return on


def begin(on: Engine, user: str) -> Task:
    task = on.new_task(user, PROMPTS[user])
    assert on.admit(task)
    while not task.decoding:
        on.step(task, 1)
    return task


def serve(on: Engine, user: str) -> None:
    on.finish(begin(on, user))
    on.land(99, 99)
    on.check()


def left(on: Engine, user: str) -> int:
    """How many slots of the pools, free or not, hold the KV of a user's prompt."""
    marks = torch.tensor(stamps(None, PROMPTS[user]), dtype=torch.float32)
    buffers = [on.kv.k_buffer[0], -on.kv.v_buffer[0]]
    if on.setting.host:
        host = on.cache.token_to_kv_pool_host
        buffers += [host.kv_buffer[0], -host.kv_buffer[1]]
    return sum(int(torch.isin(buffer, marks).sum()) for buffer in buffers)


ENGINES = pytest.mark.parametrize(("page", "host"), [(1, False), (1, True), (4, False), (4, True)])


@ENGINES
def test_nothing_is_left_of_an_erased_user(page: int, host: bool) -> None:
    on = engine(page, host=host)
    serve(on, "ann")
    serve(on, "ben")
    copies = 4 if host else 2
    assert left(on, "ann") == left(on, "ben") == 40 * copies
    on.cache.erase("ann")
    on.land(99, 99)
    assert left(on, "ann") > 0  # a batch that was launched may read them
    on.cache.core.device_frees.flush_idle()  # as when the scheduler has nothing to do
    on.check()
    assert left(on, "ann") == 0
    assert left(on, "ben") == 40 * copies
    on.drain()
    assert left(on, "ben") == 0


@ENGINES
def test_what_a_running_request_reads_is_overwritten_when_it_ends(page: int, host: bool) -> None:
    on = engine(page, host=host)
    serve(on, "ann")
    task = begin(on, "ann")
    on.land(99, 99)
    on.cache.erase("ann", [task.req])
    for _ in range(6):
        on.step(task, 2)
        on.check()  # its bytes are there
    assert left(on, "ann") >= 2 * 39
    on.finish(task)
    on.land(99, 99)
    on.land(99, 99)
    on.cache.core.device_frees.flush_idle()
    on.check()
    assert left(on, "ann") == 0
    on.drain()


@ENGINES
def test_eviction_and_flush_leave_nothing(page: int, host: bool) -> None:
    on = engine(page, host=host)
    serve(on, "ann")
    on.evict(10_000)
    on.evict_host(10_000)
    assert left(on, "ann") == 0
    serve(on, "ben")
    on.flush()
    assert left(on, "ben") == 0
    on.drain()


def test_slots_freed_in_a_group_are_overwritten() -> None:
    on = engine(4, host=False)
    slots = on.allocator.alloc(12)
    on.kv.k_buffer[0][slots] = 1.0
    on.allocator.free_group_begin()
    on.allocator.free_segment(slots[:6], start_pos=0)
    on.allocator.free(slots[8:])
    on.allocator.free_group_end()
    assert not on.kv.k_buffer[0].any()


def latent(page: int) -> Any:
    return _pool(MLATokenToKVPool, page, kv_lora_rank=4, qk_rope_head_dim=2)


def multihead(page: int) -> Any:
    return _pool(MHATokenToKVPool, page, head_num=2, head_dim=4)


def _pool(kind: Any, page: int, **shape: int) -> Any:
    return kind(
        size=32,
        page_size=page,
        dtype=torch.float32,
        layer_num=3,
        device="cpu",
        enable_memory_saver=False,
        **shape,
    )


@pytest.mark.parametrize("layout", ["layer_first", "page_first", "page_first_direct"])
@pytest.mark.parametrize("kind", ["latent", "multihead"])
def test_every_layout_is_overwritten_where_it_was_freed(kind: str, layout: str) -> None:
    pool = {"latent": latent, "multihead": multihead}[kind](4)
    host_kind: Any = {"latent": MLATokenToKVPoolHost, "multihead": MHATokenToKVPoolHost}[kind]
    host = host_kind(pool, 2.0, 0, 4, layout, pin_memory=False)
    allocator = TokenToKVPoolAllocator(32, torch.float32, "cpu", pool, need_sort=False)
    cache = SimpleNamespace(
        token_to_kv_pool_allocator=allocator,
        token_to_kv_pool_host=host,
        cache_controller=SimpleNamespace(load_stream=None),
    )
    zeroize_freed_slots(cache)
    device_buffers = pool.kv_buffer if kind == "latent" else [*pool.k_buffer, *pool.v_buffer]
    for buffer in device_buffers:
        buffer.fill_(1.0)
    host.kv_buffer.fill_(1.0)
    kept, freed = allocator.alloc(8), allocator.alloc(8)
    allocator.free(freed)
    for buffer in device_buffers:
        assert buffer[kept].all()
        assert not buffer[freed].any()
    kept, freed = host.alloc(8), host.alloc(8)
    host.free(freed)
    pages = [host.get_data_page(int(slot)) for slot in kept[::4]]
    assert all(bool(page.all()) for page in pages)
    assert not any(bool(host.get_data_page(int(slot)).any()) for slot in freed[::4])
    assert int((host.kv_buffer == 0).sum()) == 8 * host.kv_buffer.numel() // host.size


def test_an_unknown_layout_is_refused() -> None:
    pool = multihead(1)
    pool.scales = [torch.zeros(7, 3)]
    allocator = TokenToKVPoolAllocator(32, torch.float32, "cpu", pool, need_sort=False)
    with pytest.raises(ValueError, match=r"--tenant-zeroize.*MHATokenToKVPool\.scales"):
        zeroize_freed_slots(SimpleNamespace(token_to_kv_pool_allocator=allocator))
