"""Responses in memory: who gives way, what remains of those who left, and what many owners cost."""

from __future__ import annotations

import gc
import random
import time

import pytest
from support.response_stores import START, TTL, Clock, entry, everything, key, share

from sglang.srt.tenancy.response_cache import memory
from sglang.srt.tenancy.response_cache.entry import Entry, Key
from sglang.srt.tenancy.response_cache.memory import MemoryStore
from sglang.srt.tenancy.response_cache.store import OVERHEAD

SIZE = 1000 - OVERHEAD  # an entry of 1000 bytes


async def put(store: MemoryStore, new: Key, size: int = SIZE, created: float = START) -> bool:
    ticket = (await store.get(Key(new.owner, b"another"))).ticket
    return await store.put(new, entry(b"x" * size, created=created), ticket)


async def held(store: MemoryStore, owner: str, numbers: int = 20) -> list[int]:
    """Which are there; asking for them makes them used."""
    found = [(await store.get(key(owner, number))).entry for number in range(numbers)]
    return [number for number, there in enumerate(found) if there is not None]


async def test_whoever_holds_most_gives_first() -> None:
    store = MemoryStore(10_000, None, everything)
    for number in range(7):
        assert await put(store, key("ann", number))
    for number in range(3):
        assert await put(store, key("ben", number))
    assert await store.get(key("ann", 0))  # so that 1 is the least recently used
    assert await put(store, key("cid", 0))
    assert await put(store, key("ben", 3))
    assert await held(store, "ann") == [0, 3, 4, 5, 6]
    assert await held(store, "ben") == [0, 1, 2, 3]
    assert await held(store, "cid") == [0]


async def test_who_holds_most_keeps_what_they_just_put() -> None:
    """Of theirs, all else goes first."""
    store = MemoryStore(10_000, None, everything)
    for number in range(4):
        await put(store, key("ann", number))
        await put(store, key("ben", number))
    assert await put(store, key("ann", 9), SIZE + 6000)
    assert await held(store, "ann") == [9]
    assert await held(store, "ben") == [1, 2, 3]


async def test_nobody_holds_more_than_their_share() -> None:
    store = MemoryStore(10_000, None, share)
    for number in range(4):
        assert await put(store, key("cid", number))  # a quarter
    assert await held(store, "cid") == [2, 3]
    assert not await put(store, key("cid", 3), 2500 - OVERHEAD + 1)
    assert (await store.get(key("cid", 3))).entry == entry(b"x" * SIZE)
    assert (await store.stats("cid")).room == 2500


async def test_a_time_that_is_over_is_over_for_those_whom_nobody_asks_for() -> None:
    clock = Clock()
    store = MemoryStore(1_000_000, TTL, everything, clock)
    for number in range(500):
        await put(store, key("ann", number), created=START - number % 2)
    clock.time += TTL - 1
    assert (await store.get(key("ann", 499))).entry is None
    stats = await store.stats()
    assert (stats.entries, stats.expired) == (250, 250)


def objects() -> int:
    """Count what the store made."""
    gc.collect()
    kinds = {memory._Owner, memory._Held, memory._Ticket, Entry}
    return sum(type(thing) in kinds for thing in gc.get_objects())


async def test_nothing_remains_of_owners_without_entries() -> None:
    clock = Clock()
    store = MemoryStore(60_000, TTL, everything, clock)
    before = objects()
    for number in range(400):
        await put(store, key(f"put{number}", 0))
        await store.get(key(f"asked{number}", 0))
        await store.clear(f"cleared{number}")
    assert objects() - before < 3 * 60 + 10
    for number in range(400):
        await store.clear(f"put{number}")
    assert objects() == before
    for number in range(50):
        await put(store, key(f"put{number}", 0))
    clock.time += TTL
    assert (await store.stats()).entries == 0
    assert objects() == before
    for number in range(50):
        await put(store, key(f"put{number}", 0), created=clock.time)
    await store.clear()
    assert objects() == before


async def seconds_of(owners: int, steps: int) -> float:
    """The time of some steps in a store full of many owners' entries: each puts one out."""
    store = MemoryStore(owners * 1000, TTL, share, Clock())
    draw = random.Random(1)
    for number in range(owners):
        await put(store, key(f"user{number}", 0), SIZE - draw.randrange(5))
    names = [f"user{draw.randrange(2 * owners)}" for _ in range(steps)]
    best = float("inf")
    for turn in range(1, 4):
        started = time.perf_counter()
        for name in names:
            wanted = key(name, turn)
            found = await store.get(wanted)
            await store.put(wanted, entry(b"x" * SIZE), found.ticket)
        best = min(best, time.perf_counter() - started)
    assert (await store.stats()).evicted > steps
    return best


@pytest.mark.slow
@pytest.mark.alone
async def test_many_owners_cost_no_more_than_a_few() -> None:
    """Their records no longer fit the processor's caches; looking at all would be 100 times."""
    few, many = await seconds_of(1000, 20_000), await seconds_of(100_000, 20_000)
    assert many < 6 * few, (few, many)
