"""Responses in Redis that is away, back, full, or tells nobody: requests go on without."""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
from support.redis_server import RedisServer, running
from support.response_stores import Clock, entry, has, key, put, tag, warnings

from sglang.srt.tenancy.response_cache import redis_store
from sglang.srt.tenancy.response_cache.redis_client import shown
from sglang.srt.tenancy.response_cache.redis_store import RedisStore
from sglang.srt.tenancy.response_cache.store import StoreError

PASSWORD = "s3cret-word"


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


@pytest.fixture
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """Try again at once."""
    monkeypatch.setattr(redis_store, "_PAUSE", 0.0)


@pytest.mark.usefixtures("no_pause")
async def test_a_server_that_is_killed_is_gone_on_without(
    stores: tuple[RedisStore, RedisStore], server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    """In the middle of requests; what was under way is not put into the next one."""
    caplog.set_level(logging.INFO)
    one, other = stores
    assert await put(one, 1)
    late = (await one.get(key("ann", 2))).ticket

    async def ask(number: int) -> None:
        for _ in range(30):
            await put(one, number)

    asked = [asyncio.create_task(ask(number)) for number in range(20)]
    await asyncio.sleep(0.05)
    server.kill()
    await asyncio.gather(*asked)
    assert not await has(one, 1)
    assert not await put(one, 1)
    assert await one.clear("ben") == 0
    down = await one.stats()
    assert down.entries == 0
    assert down.failures > 3
    [warning] = warnings(caplog)
    assert warning.startswith(f"response cache {server.url}: it cannot be reached (")
    server.start()
    assert not await one.put(key("ann", 2), entry(b"late"), late)
    assert not await has(one, 1)
    assert await put(one, 1)
    assert await has(one, 1)
    assert await put(other, 2)
    assert [record.message for record in caplog.records if "no more" in record.message]


async def test_a_server_that_is_away_is_left_alone_for_a_while(
    stores: tuple[RedisStore, RedisStore], server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, _ = stores
    assert await put(one, 1)
    with server.held_still():
        started = time.monotonic()
        assert not await has(one, 1)
        first = time.monotonic() - started
        for _ in range(500):
            assert not await has(one, 1)
        rest = time.monotonic() - started - first
        assert 0.3 < first < 1.7
        assert rest < 0.3
        assert (await one.stats()).failures == 1
    monkeypatch.setattr(one._outage, "_until", 0.0)  # as if the pause was over
    assert await has(one, 1)


@pytest.mark.usefixtures("no_pause")
async def test_a_clear_is_not_forgotten_while_the_server_is_away(
    stores: tuple[RedisStore, RedisStore], server: RedisServer
) -> None:
    one, other = stores
    await put(one, 1)
    await put(one, 1, "ben")
    late = (await other.get(key("ann", 2))).ticket
    with server.held_still():
        assert await one.clear("ann") == 0
        assert not await has(one, 1)
    assert not await has(one, 1)
    assert await has(one, 1, "ben")
    assert not await has(other, 1)
    assert not await other.put(key("ann", 2), entry(b"late"), late)
    names = b" ".join(server.client.scan_iter("*:entry:*"))
    assert tag("ann").encode() not in names


async def test_a_full_server_is_gone_on_without(
    program: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """One that throws nothing out; what it has, it still gives."""
    with running(program, tmp_path, ("maxmemory", "3mb")) as server:
        store = RedisStore(server.url, None, tag, now=Clock())
        kept = [await put(store, number, size=200_000) for number in range(20)]
        assert kept[0]
        assert not kept[-1]
        assert await has(store, 0)
        assert (await store.stats()).failures == kept.count(False)
        [warning] = warnings(caplog)
        assert "it refuses a command (" in warning
        assert await store.clear("ann") == kept.count(True)
        assert await put(store, 0, size=200_000)
        await store.close()


async def test_a_replica_is_said_to_be_of_no_use(
    stores: tuple[RedisStore, RedisStore], server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    """It takes no writes, so nobody has a ticket."""
    one, _ = stores
    server.client.replicaof("127.0.0.1", 1)
    assert not await put(one, 1)
    assert not await put(one, 1)
    assert (await one.stats()).failures == 2
    [warning] = warnings(caplog)
    assert "it refuses a command (nothing can be written)" in warning


async def test_an_evicting_server_stays_within_its_memory(program: Path, tmp_path: Path) -> None:
    settings = ("maxmemory", "4mb"), ("maxmemory-policy", "allkeys-lru")
    with running(program, tmp_path, *settings) as server:
        store = RedisStore(server.url, None, tag, now=Clock())
        for number in range(200):
            await put(store, number, f"user{number % 5}", size=50_000)
        assert await has(store, 199, "user4")
        assert not await has(store, 0, "user0")
        stats = await store.stats()
        assert 0 < stats.entries < 80
        assert stats.failures == 0
        await store.close()


async def test_a_password_is_in_no_message(
    program: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with running(program, tmp_path, ("requirepass", PASSWORD)) as server:
        url = server.url.replace("//", f"//:{PASSWORD}@")
        store = RedisStore(url, None, tag, now=Clock())
        assert await put(store, 1)
        await store.close()
        for wrong in (
            server.url,
            url.replace("@", "-wrong@"),
            url.replace("127.0.0.1", "127.0.0.9"),
        ):
            other = RedisStore(wrong, None, tag, now=Clock())
            assert not await put(other, 1)
            await other.close()
    assert len(warnings(caplog)) == 3
    assert PASSWORD not in caplog.text
    for bad in (f"http://:{PASSWORD}@host/0", f"redis://:{PASSWORD}@host:many/0", PASSWORD):
        with pytest.raises(StoreError, match="no URL of a Redis server; give redis://") as refused:
            RedisStore(bad, None, tag, now=Clock())
        assert PASSWORD not in str(refused.value)
    assert shown("rediss://ann:word@[::1]:6380/3?password=other") == "rediss://[::1]:6380/3"


def test_without_redis_py_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    module = "sglang.srt.tenancy.response_cache.redis_client"
    monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "redis.asyncio", None)
    with pytest.raises(StoreError, match=r"pip install 'sglang\[redis\]'"):
        __import__(module)
