"""Responses in Redis: shared by servers, cleared for all of them, and what others may see of it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
from support.redis_server import RedisServer, running
from support.response_stores import START, TTL, Clock, entry, has, key, put, tag

from sglang.srt.tenancy.response_cache.redis_store import RedisStore


@pytest.fixture(scope="module")
def program(debian_tool: Callable[[str], Path]) -> Path:
    return debian_tool("redis-server")


@pytest.fixture
def server(program: Path, tmp_path: Path) -> Iterator[RedisServer]:
    with running(program, tmp_path) as server:
        yield server


@pytest.fixture
async def stores(server: RedisServer) -> AsyncIterator[tuple[RedisStore, RedisStore]]:
    """Two servers'."""
    one, other = (
        RedisStore(server.url, None, tag, now=Clock()),
        RedisStore(server.url, None, tag, now=Clock()),
    )
    yield one, other
    await one.close()
    await other.close()


async def test_servers_share_what_they_store(stores: tuple[RedisStore, RedisStore]) -> None:
    one, other = stores
    assert await put(one, 1)
    assert await has(other, 1)
    assert not await has(other, 1, "ben")
    assert (await other.stats()).entries == 1


@pytest.mark.parametrize("whom", ["ann", None], ids=["one", "all"])
async def test_another_server_cannot_undo_a_clear(
    stores: tuple[RedisStore, RedisStore], whom: str | None
) -> None:
    one, other = stores
    for number in range(1200):  # more than are deleted at once
        await put(one, number)
    late = (await other.get(key("ann", 5000))).ticket
    assert await one.clear(whom) == 1200
    assert not await other.put(key("ann", 5000), entry(b"late"), late)
    assert not await has(other, 1)
    assert not await other.put(key("ann", 5000), entry(b"late"), late)
    assert not await has(other, 5000)
    assert await put(other, 1)
    assert await has(one, 1)


async def test_nothing_that_was_cleared_comes_back_with_lost_keys(
    stores: tuple[RedisStore, RedisStore], server: RedisServer
) -> None:
    """A full Redis throws out any key, also those that say what is good."""
    one, other = stores
    for lost in ("owner", "all"):
        assert await put(one, 1)
        late = (await other.get(key("ann", 2))).ticket
        assert server.client.delete(*server.client.scan_iter(f"sglang:*:{lost}*"))
        assert not await other.put(key("ann", 2), entry(b"late"), late)
        assert not await has(one, 1)
    assert await put(one, 1)
    server.client.delete(*server.client.scan_iter("sglang:*:index:*"))
    assert await one.clear("ann") == 0
    assert not await has(one, 1)


async def test_a_look_up_is_one_round_trip(
    stores: tuple[RedisStore, RedisStore], server: RedisServer
) -> None:
    one, _ = stores
    await put(one, 1)

    def calls() -> dict[str, int]:
        stats = server.client.info("commandstats")
        return {name.removeprefix("cmdstat_"): row["calls"] for name, row in stats.items()}

    before = calls()
    for _ in range(50):
        await has(one, 1)
    after = calls()
    more = {name: after[name] - before.get(name, 0) for name in after}
    assert more["evalsha"] == 50
    assert more["get"] == 150  # inside of those
    of_test = {"info", "hello", "client|setinfo"}
    assert {name for name, times in more.items() if times} - of_test == {"evalsha", "get"}


async def test_everything_there_ends(server: RedisServer) -> None:
    store = RedisStore(server.url, 5000.0, tag, now=lambda: START)
    ticket = (await store.get(key("ann", 1))).ticket
    assert await store.put(key("ann", 1), entry(b"one", created=START - 100), ticket)
    lives = {name.decode(): server.client.pttl(name) for name in server.client.scan_iter("*")}
    kinds = sorted(name.split(":")[3] for name in lives)
    assert kinds == ["all", "entry", "index", "owner"]
    for name, milliseconds in lives.items():
        most = 4_900_000 if ":entry:" in name else 5_000_000
        assert most - 60_000 < milliseconds <= most
    assert not await store.put(key("ann", 1), entry(b"one", created=START - 5000), ticket)
    await store.close()
    day = RedisStore(server.url, None, tag, now=Clock())
    await put(day, 2, "ben")
    [name] = server.client.scan_iter(f"*:entry:{tag('ben')}:*")
    assert 86_300_000 < server.client.pttl(name) <= 86_400_000
    await day.close()


async def test_a_shorter_time_counts_for_what_is_there(server: RedisServer) -> None:
    clock = Clock()
    long, short = (RedisStore(server.url, ttl, tag, now=clock) for ttl in (10 * TTL, TTL))
    ticket = (await long.get(key("ann", 1))).ticket
    assert await long.put(key("ann", 1), entry(b"one"), ticket)
    assert await has(short, 1)
    clock.time += TTL
    assert not await has(short, 1)
    assert await has(long, 1)
    await long.close()
    await short.close()


async def test_an_index_forgets_what_is_over(
    stores: tuple[RedisStore, RedisStore], server: RedisServer
) -> None:
    one, _ = stores
    await put(one, 1)
    [index] = server.client.scan_iter("*:index:*")
    server.client.zadd(index, {b"long ago": 1.0})
    await put(one, 2)
    assert sorted(server.client.zrange(index, 0, -1)) == [key("ann", n).digest for n in (1, 2)]


async def test_it_names_nobody(stores: tuple[RedisStore, RedisStore], server: RedisServer) -> None:
    one, _ = stores
    await put(one, 1, "ann@example.com")
    for name in server.client.scan_iter("*"):
        assert b"example" not in name
        value = server.client.dump(name)
        assert isinstance(value, bytes)
        assert b"ann@example" not in value


async def test_what_is_too_large_is_not_stored(stores: tuple[RedisStore, RedisStore]) -> None:
    one, _ = stores
    assert not await put(one, 1, size=17 << 20)
    assert (await one.stats()).failures == 0
