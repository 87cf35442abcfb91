"""Stores of responses are interchangeable: the same plays on each, against one model."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from pathlib import Path

import pytest
from support.redis_server import RedisServer, running
from support.response_stores import (
    ROOM,
    TTL,
    Clock,
    Events,
    Model,
    Play,
    entry,
    key,
    share,
    tag,
)

from sglang.srt.tenancy.response_cache import redis_store
from sglang.srt.tenancy.response_cache.memory import MemoryStore
from sglang.srt.tenancy.response_cache.packing import PackingError, pack, unpack
from sglang.srt.tenancy.response_cache.redis_store import RedisStore
from sglang.srt.tenancy.response_cache.sqlite_file import SqliteStore
from sglang.srt.tenancy.response_cache.store import ResponseStore

LARGEST = 3000

Make = Callable[[int], AbstractAsyncContextManager[Play]]


@pytest.fixture(scope="module")
def redis(
    debian_tool: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RedisServer]:
    with running(debian_tool("redis-server"), tmp_path_factory.mktemp("redis")) as server:
        yield server


async def no_time(seconds: float) -> None:
    """The clock is all that the store asks."""


@contextlib.asynccontextmanager
async def memory(seed: int) -> AsyncIterator[Play]:
    clock = Clock()
    store = MemoryStore(ROOM, TTL, share, clock)
    yield Play(store, Model(ROOM, TTL, clock), seed, no_time)


@contextlib.asynccontextmanager
async def file(seed: int, folder: Path) -> AsyncIterator[Play]:
    clock = Clock()

    def start() -> SqliteStore:
        return SqliteStore(str(folder / f"cache-{seed}"), ROOM, TTL, share, tag, clock)

    async def restart() -> ResponseStore:
        await play.store.close()
        return start()

    play = Play(start(), Model(ROOM, TTL, clock), seed, no_time, restart)
    yield play
    await play.store.close()


@contextlib.asynccontextmanager
async def in_redis(
    seed: int, server: RedisServer, patch: pytest.MonkeyPatch
) -> AsyncIterator[Play]:
    patch.setattr(redis_store, "_COUNTED_EVERY", 0.0)
    clock = Clock()
    server.client.flushall()

    def start() -> RedisStore:
        return RedisStore(server.url, TTL, tag, LARGEST, clock)

    async def age(seconds: float) -> None:
        """Let keys end as much sooner."""
        for name in server.client.scan_iter("sglang:*:entry:*"):
            server.client.pexpire(name, server.client.pttl(name) - round(seconds * 1000))

    async def restart() -> ResponseStore:
        """Of the SGLang server."""
        await play.store.close()
        return start()

    play = Play(start(), Model(None, TTL, clock, LARGEST), seed, age, restart)
    yield play
    await play.store.close()


@pytest.fixture(params=["memory", "file", "redis"])
def make(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    """Return what makes a store that is empty."""
    if request.param == "memory":
        return memory
    if request.param == "file":
        return lambda seed: file(seed, tmp_path)
    server: RedisServer = request.getfixturevalue("redis")
    return lambda seed: in_redis(seed, server, monkeypatch)


PLAYS = {"memory": (150, 300), "file": (12, 150), "redis": (8, 120)}


@pytest.mark.slow
async def test_a_store_does_as_the_model_says(make: Make, request: pytest.FixtureRequest) -> None:
    store = request.node.callspec.params["make"]
    plays, steps = PLAYS[store]
    events: Events = Counter()
    for seed in range(plays):
        async with make(seed) as play:
            await play.run(steps)
            events += play.events
    wanted = {"hits", "misses", "kept", "late", "refused", "clears"}
    wanted |= {"memory": {"evictions"}, "file": {"evictions", "restarts"}, "redis": {"restarts"}}[
        store
    ]
    # Or it would prove little.
    assert all(events[event] > 5 for event in wanted), events


async def test_an_answer_comes_back_as_it_was(make: Make) -> None:
    async with make(0) as play:
        store = play.store
        one = entry(b"", b'{"a": "\xc3\xa9\\u0000"}', b"x" * 500, seconds=1 / 3)
        found = await store.get(key("ann", 1))
        assert found.entry is None
        assert await store.put(key("ann", 1), one, found.ticket)
        assert (await store.get(key("ann", 1))).entry == one
        assert (await store.get(key("ann", 2))).entry is None
        assert (await store.get(key("ben", 1))).entry is None
        two = replace(one, bodies=(*one.bodies, b"more"))
        assert await store.put(key("ann", 1), two, found.ticket)
        assert (await store.get(key("ann", 1))).entry == two


async def test_a_clear_reaches_what_is_under_way(make: Make) -> None:
    async with make(0) as play:
        store = play.store
        for clear, late in ((None, {"ann", "ben"}), ("ann", {"ann"})):
            tickets = {name: (await store.get(key(name, 1))).ticket for name in ("ann", "ben")}
            await store.clear(clear)
            await store.get(key("ann", 1))
            for name, ticket in tickets.items():
                kept = await store.put(key(name, 1), entry(b"old"), ticket)
                assert kept == (name not in late), (clear, name)
            ticket = (await store.get(key("ann", 1))).ticket
            assert await store.put(key("ann", 1), entry(b"new"), ticket)
        assert await store.clear() == 2


@pytest.mark.parametrize(
    "ticket", [None, 1.5, "none", object()], ids=["none", "number", "text", "any"]
)
async def test_what_is_no_ticket_is_none(make: Make, ticket: object) -> None:
    async with make(0) as play:
        await play.store.get(key("ann", 1))
        assert not await play.store.put(key("ann", 1), entry(b"one"), ticket)


async def test_many_at_once(make: Make) -> None:
    """Requests of many users, some of whom go away in the middle: each finds its own."""
    async with make(0) as play:
        store = play.store

        async def ask(owner: str, number: int) -> None:
            body = f"{owner} {number}".encode()
            for _ in range(4):
                found = await store.get(key(owner, number))
                assert found.entry is None or found.entry.bodies == (body,)
                await store.put(key(owner, number), entry(body), found.ticket)

        asked = [asyncio.create_task(ask(f"user{n % 7}", n % 11)) for n in range(150)]
        for number, task in enumerate(asked):
            if number % 3 == 0:
                await asyncio.sleep(0)
                task.cancel()
        ends = await asyncio.gather(*asked, return_exceptions=True)
        assert all(end is None or isinstance(end, asyncio.CancelledError) for end in ends), ends
        stats = await store.stats()
        assert stats.entries > 10
        assert stats.failures == 0


async def test_after_the_end_nothing_is_found(make: Make) -> None:
    async with make(0) as play:
        ticket = (await play.store.get(key("ann", 1))).ticket
        await play.store.close()
        await play.store.close()
        await play.store.put(key("ann", 1), entry(b"one"), ticket)
        await play.store.get(key("ann", 1))
        await play.store.clear()


def test_bytes_that_are_no_entry_are_noticed() -> None:
    whole = pack(entry(b"one", b"two"))
    assert unpack(whole) == entry(b"one", b"two")
    for cut in range(len(whole)):
        with pytest.raises(PackingError):
            unpack(whole[:cut])
        spoilt = bytearray(whole)
        spoilt[cut] ^= 0x20
        with pytest.raises(PackingError):
            unpack(bytes(spoilt))
