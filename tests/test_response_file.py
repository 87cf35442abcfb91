"""Responses in a file: shared by processes, kept over restarts, refused where it is not ours."""

from __future__ import annotations

import random
import sqlite3
import stat
import time
from contextlib import closing
from pathlib import Path

import pytest
from support.patience import until
from support.response_stores import (
    START,
    TTL,
    Clock,
    entry,
    everything,
    has,
    key,
    put,
    tag,
)
from support.response_writer import (
    ROOM,
    open_store,
)

from sglang.srt.tenancy.response_cache import sqlite_entries
from sglang.srt.tenancy.response_cache.sqlite_file import SqliteStore
from sglang.srt.tenancy.response_cache.store import OVERHEAD, StoreError


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "cache")


async def test_processes_share_a_file(path: str) -> None:
    """Two stores stand for two processes: neither knows of the other but through the file."""
    one, other = open_store(path), open_store(path)
    assert await put(one, 1)
    assert await has(other, 1)
    late = (await other.get(key("ann", 2))).ticket
    of_ben = (await other.get(key("ben", 2))).ticket
    assert await one.clear("ann") == 1
    assert not await has(other, 1)
    assert not await other.put(key("ann", 2), entry(b"late"), late)
    assert await other.put(key("ben", 2), entry(b"in time"), of_ben)
    late = (await other.get(key("cid", 2))).ticket
    assert await one.clear() == 1
    assert not await other.put(key("cid", 2), entry(b"late"), late)
    assert (await one.stats()).entries == (await other.stats()).entries == 0
    await one.close()
    assert await put(other, 1)
    await other.close()


async def test_clears_are_not_remembered_without_end(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_entries, "_CLEARED", 20)
    store = open_store(path)
    tickets = {n: (await store.get(key(f"user{n}", 1))).ticket for n in (0, 24)}
    for number in range(25):
        await store.clear(f"user{number}")
    for number, ticket in tickets.items():
        assert not await store.put(key(f"user{number}", 1), entry(b"late"), ticket)
    assert await put(store, 1, "user0")
    await store.close()
    with closing(sqlite3.connect(path)) as file:
        assert file.execute("SELECT count(*) FROM cleared").fetchone() == (20,)


async def test_the_file_is_there_after_a_restart(path: str) -> None:
    store = open_store(path)
    for number in range(4):
        assert await put(store, number, size=1000 - OVERHEAD)
    assert await has(store, 0)
    await store.close()
    store = open_store(path, room=2500)  # less than it held
    assert (await store.stats()).size == 2000
    assert [await has(store, number) for number in range(4)] == [True, False, False, True]
    await store.close()


async def test_only_the_server_may_read_it_and_it_names_nobody(path: str) -> None:
    store = open_store(path)
    secret = b"what ann was told"
    for owner in ("ann@example.com", "ben"):
        ticket = (await store.get(key(owner, 1))).ticket
        await store.put(key(owner, 1), entry(secret), ticket)
    files = list(Path(path).parent.iterdir())
    assert len(files) == 3
    for file in files:
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert b"ann@example" not in file.read_bytes()
    assert any(secret in file.read_bytes() for file in files)
    await store.clear("ann@example.com")
    await store.clear("ben")
    assert not any(secret in file.read_bytes() for file in files)
    await store.close()


async def test_owners_named_with_another_key_are_dropped(
    path: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Nobody could erase them."""
    store = open_store(path)
    await put(store, 1)
    await store.close()
    again = SqliteStore(path, ROOM, None, everything, lambda owner: f"new{tag(owner)}")
    assert (await again.stats()).entries == 0
    assert "SGLANG_TENANT_PROCESS_KEY" in caplog.text
    assert await put(again, 1)
    await again.close()


def a_file(path: Path, *statements: str) -> Path:
    with closing(sqlite3.connect(path)) as file, file:
        for statement in statements:
            file.execute(statement)
    return path


async def test_files_that_are_not_ours_are_refused_and_left_alone(tmp_path: Path) -> None:
    text = tmp_path / "text"
    text.write_text("no database " * 100)
    other = a_file(tmp_path / "other", "CREATE TABLE entries (name TEXT)")
    newer = tmp_path / "newer"
    store = open_store(str(newer))
    await put(store, 1)
    await store.close()
    a_file(newer, "PRAGMA user_version = 7")
    for path, problem in (
        (text, "no SQLite database; give a path of its own"),
        (other, "another program's database; give a path of its own"),
        (newer, "of version 7, and this server reads 1; delete it, give another path"),
    ):
        before = path.read_bytes()
        with pytest.raises(StoreError, match=problem) as refused:
            open_store(str(path))
        assert str(refused.value).startswith(f"response cache {path}: ")
        assert path.read_bytes() == before


async def test_a_time_that_is_over_ends_what_nobody_asks_for(path: str) -> None:
    clock = Clock()
    store = SqliteStore(path, ROOM, TTL, everything, tag, clock)
    for number in range(5):
        assert await put(store, number)
    clock.time = START + TTL

    def entries() -> int:
        with closing(sqlite3.connect(path)) as file:
            return int(file.execute("SELECT count(*) FROM entries").fetchone()[0])

    until(lambda: entries() == 0)
    await store.close()


async def seconds_of(path: str, owners: int, steps: int) -> float:
    """The time of some steps in a file full of many owners' entries: each puts one out."""
    await open_store(path).close()
    draw = random.Random(1)
    rows = [(tag(f"user{n}"), bytes(32), START, n, 300, b"") for n in range(owners)]
    with closing(sqlite3.connect(path)) as file, file:
        names = "owner, digest, created, used, size, data"
        file.executemany(f"INSERT INTO entries ({names}) VALUES (?, ?, ?, ?, ?, ?)", rows)
        file.execute("INSERT INTO owners SELECT owner, 1, size, used FROM entries")
        file.execute("UPDATE totals SET entries = ?, size = ?", (owners, owners * 300))
    store = open_store(path, room=owners * 300)
    best = float("inf")
    for turn in range(1, 4):
        started = time.perf_counter()
        for _ in range(steps):
            await put(store, turn, f"user{draw.randrange(2 * owners)}", size=300 - OVERHEAD)
        best = min(best, time.perf_counter() - started)
    assert (await store.stats()).evicted > steps
    await store.close()
    return best


@pytest.mark.slow
@pytest.mark.alone
async def test_many_owners_cost_no_more_than_a_few(path: str) -> None:
    few = await seconds_of(f"{path}-few", 1000, 1000)
    many = await seconds_of(f"{path}-many", 100_000, 1000)
    assert many < 6 * few, (few, many)
