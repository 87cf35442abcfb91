"""Slots are given back only when no batch that was launched before can read them."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from support.asks import Asker, sampling
from support.engine import Engine, Setting, Task
from support.patience import until
from support.prompts import fresh_prompt, fresh_user
from support.server import Server
from support.trees import start_group
from support.watch import Watch

from sglang.srt.tenancy.cache.core.deferred_free import DeviceFrees, HostFrees

PAGE = 4
COMMON = array("q", range(100, 140))


@pytest.fixture(autouse=True, scope="module")
def _group(tmp_path_factory: pytest.TempPathFactory) -> None:
    start_group(tmp_path_factory.mktemp("group"))


def own(user: str, tokens: int = 12) -> array[int]:
    return array("q", [1000 + sum(user.encode()) + at for at in range(tokens)])


def serve(on: Engine, user: str, prompt: array[int]) -> None:
    task = on.new_task(user, prompt)
    assert on.admit(task)
    while not task.decoding:
        on.step(task, 1)
    on.finish(task)
    on.check()


def begin(on: Engine, user: str, prompt: array[int]) -> Task:
    task = on.new_task(user, prompt)
    assert on.admit(task)
    return task


def free_pages(on: Engine) -> set[int]:
    return set(torch.cat([on.allocator.free_pages, on.allocator.release_pages]).tolist())


@pytest.mark.parametrize("host", [False, True])
def test_duplicates_wait_for_the_batch_that_reads_them(host: bool) -> None:
    """ann computes what her other request has put into the tree meanwhile. The batch after that
    is launched with her own copy, before the scheduler sees that it is one too many."""
    on = Engine(Setting(page_size=PAGE, host=host, overlap=True))
    first, second = begin(on, "ann", COMMON), begin(on, "ann", COMMON)
    on.step(first, 1)
    on.launch()
    read = set((on.row(second)[: second.computed : PAGE] // PAGE).tolist())
    on.step(second, 1)  # its pages are duplicates
    assert set((on.row(second)[: second.computed : PAGE] // PAGE).tolist()).isdisjoint(read - {0})
    on.check()
    assert read.isdisjoint(free_pages(on))
    on.processed()
    on.check()
    assert read.isdisjoint(free_pages(on)), "the batch that reads them runs still"
    on.launch()
    on.processed()
    assert len(read & free_pages(on)) == len(COMMON) // PAGE
    on.check()
    on.drain()


def test_without_overlap_nothing_waits_for_a_second_batch() -> None:
    on = Engine(Setting(page_size=PAGE, host=False, overlap=False))
    first, second = begin(on, "ann", COMMON), begin(on, "ann", COMMON)
    on.step(first, 1)
    before = len(free_pages(on))
    on.step(second, 1)
    assert len(free_pages(on)) == before + len(COMMON) // PAGE
    on.drain()


def test_merged_copies_wait_for_the_batch_that_reads_them() -> None:
    on = Engine(Setting(page_size=PAGE, host=False, overlap=True))
    serve(on, "ann", COMMON)
    on.cache.core.device_frees.flush_idle()
    reader = on.new_task("ann", COMMON + own("ann", 40), chunk=8)
    assert on.admit(reader)
    read = set((on.row(reader)[: len(COMMON) : PAGE] // PAGE).tolist())
    serve(on, "ben", COMMON)  # public: ann's copy is freed logically, and her request reads it
    on.launch()
    on.step(reader)  # moves to the public copy: the last lock goes
    on.check()
    assert on.cache.core.tree.logical.tokens() == len(COMMON)
    assert read.isdisjoint(free_pages(on))
    on.processed()
    on.launch()
    assert read.isdisjoint(free_pages(on))
    on.processed()
    assert read <= free_pages(on)
    on.check()
    on.drain()


def test_what_a_launched_batch_reads_stays_locked_when_its_request_moves() -> None:
    """cyn runs on a prefix that was public and is ben's again, and has computed it anew in the
    meantime: her next chunk moves to her own copy, and ben's may be evicted from then on."""
    on = Engine(Setting(page_size=PAGE, host=False, overlap=True, detector="none"))
    on.cache.publish(COMMON[:20])
    serve(on, "ben", COMMON[:20])
    runs = on.new_task("cyn", COMMON + own("cyn"), chunk=8)
    assert on.admit(runs)
    on.step(runs)
    on.cache.withdraw(COMMON[:20])
    serve(on, "cyn", COMMON)
    on.cache.core.device_frees.flush_idle()
    on.launch()
    on.step(runs)
    on.evict(20)  # there is little to evict but ben's copy
    assert not on.launched, "it waited for the batch that reads it"
    on.check()
    on.drain()


def test_who_needs_memory_waits_for_what_was_launched() -> None:
    on = Engine(Setting(page_size=PAGE, host=False, overlap=True, device_tokens=128))
    first, second = begin(on, "ann", COMMON), begin(on, "ann", COMMON)
    on.step(first, 1)
    on.launch()
    on.step(second, 1)
    assert on.cache.core.device_frees.tokens == len(COMMON)
    on.evict(len(COMMON))
    assert on.cache.core.device_frees.tokens == 0
    assert not on.launched, "it waited for the batch"
    on.check()
    on.drain()


class Lists:
    """Slots that are lists of numbers."""

    def __init__(self) -> None:
        self.freed: list[list[int]] = []

    def concat(self, parts: Sequence[list[int]]) -> list[int]:
        return [slot for part in parts for slot in part]

    def copy(self, slots: list[int]) -> list[int]:
        return list(slots)

    def numbers(self, slots: list[int]) -> list[int]:
        return slots

    def available(self) -> int:
        return 0

    def free_device(self, slots: list[int]) -> None:
        self.freed.append(slots)

    def free_host(self, slots: list[int]) -> None:
        self.freed.append(slots)

    def synchronize(self) -> None:
        pass


def test_what_waits_is_freed_in_one_call() -> None:
    memory = Lists()
    freed = memory.freed
    frees = DeviceFrees(memory, print, 1)
    frees.add([1, 2])
    frees.add([3])
    frees.advance()
    frees.add([4])
    assert (freed, frees.tokens) == ([], 4)
    frees.advance()
    assert (freed, frees.tokens) == ([[1, 2, 3]], 1)
    frees.advance()
    frees.advance()
    assert (freed, frees.tokens) == ([[1, 2, 3], [4]], 0)


class Holder:
    """Stands for a node: counts who protects it."""

    held = 0

    def protect_host(self) -> None:
        self.held += 1

    def release_host(self) -> None:
        self.held -= 1


def test_host_slots_wait_for_the_transfers_of_their_time() -> None:
    memory = Lists()
    freed = memory.freed
    under_way = {"first"}
    frees = HostFrees(memory, lambda: iter(under_way))
    holder = Holder()
    frees.add([1, 2])
    frees.protect(holder)
    frees.check()
    under_way.add("second")  # it was started later, and can know nothing of them
    frees.check()
    assert (freed, holder.held) == ([], 1)
    under_way.discard("first")
    frees.check()
    assert (freed, holder.held) == ([[1, 2]], 0)
    under_way.clear()
    frees.add([3])
    assert freed == [[1, 2], [3]], "nothing is under way"


@pytest.mark.server
@pytest.mark.parametrize("ahead", [False, True])
def test_a_server_frees_what_waited(
    tiny_model: Path, tmp_path_factory: pytest.TempPathFactory, ahead: bool
) -> None:
    """The scheduler says when a batch is processed, and when it is idle."""
    start = "support.overlap:start" if ahead else "support.watch:start"
    watch = Watch(tmp_path_factory.mktemp("watch"), start)
    flags = ("--enable-tenant-cache", "--tenant-mode", "isolated")
    with Server(tiny_model, *flags, env=watch.env) as server:
        user, prompt, body = fresh_user(), fresh_prompt(200), {"sampling_params": sampling(20)}

        def ask(_: int) -> None:
            Asker(server).generate(text=prompt, user_id=user, **body)

        with ThreadPoolExecutor(8) as threads:
            list(threads.map(ask, range(16)))
        until(lambda: watch.steps()[-1]["deferred"] == 0)
        # Without overlap they are freed before the scheduler's next round.
        assert any(step["deferred"] for step in watch.steps()) == ahead
