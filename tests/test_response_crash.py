"""Responses in a file: their process may end at any moment."""

from __future__ import annotations

import random
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from support.patience import until
from support.response_stores import (
    put,
    tag,
)
from support.response_writer import (
    ROOM,
    Writers,
    entry_of,
    key_of,
    open_store,
)

from sglang.srt.tenancy.response_cache.packing import unpack
from sglang.srt.tenancy.response_cache.store import OVERHEAD

KILLS = 200
LAST = 12  # entries that fit, whatever their sizes


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "cache")


def check(path: str) -> None:
    """Look at all that the file holds."""
    with closing(sqlite3.connect(path)) as file:
        assert file.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        rows = file.execute("SELECT owner, digest, used, size, data FROM entries").fetchall()
        [totals] = file.execute("SELECT entries, size FROM totals").fetchall()
        owners = file.execute("SELECT * FROM owners").fetchall()
    assert totals == (len(rows), sum(row[3] for row in rows))
    assert totals[1] <= ROOM
    for owner, entries, size, oldest in owners:
        theirs = [row for row in rows if row[0] == owner]
        assert entries == len(theirs)
        assert size == sum(row[3] for row in theirs)
        assert oldest == min(row[2] for row in theirs)
    assert {owner for owner, *_ in owners} == {row[0] for row in rows}
    for owner, digest, _, size, data in rows:
        number = int.from_bytes(digest, "big")
        assert owner == tag(key_of(number).owner)
        assert unpack(data) == entry_of(number)
        assert size == entry_of(number).size + OVERHEAD


@pytest.mark.slow
async def test_a_process_killed_at_any_moment_loses_nothing(path: str) -> None:
    """Not even the last second: what was kept is in the file."""
    draw = random.Random(1)
    first = stored = 0

    def delay(read: Callable[[], str]) -> None:
        if draw.random() < 0.8:
            read()  # else it is killed where it opens, and repairs
        time.sleep(draw.random() * 0.015)

    writers = Writers(path)
    for _ in range(KILLS):
        numbers = writers.killed(first, delay)
        if numbers:
            check(path)
            with closing(sqlite3.connect(path)) as file:
                rows = file.execute("SELECT digest FROM entries").fetchall()
            there = {int.from_bytes(digest, "big") for (digest,) in rows}
            assert set(numbers[-LAST:]) <= there
            first = max(numbers) + 100
        stored += len(numbers)
    writers.close()
    assert stored > KILLS
    store = open_store(path)
    number = first - 100
    assert (await store.get(key_of(number))).entry == entry_of(number)
    assert await store.clear() > LAST
    await store.close()


async def test_what_is_older_than_a_second_waits_for_no_power(path: str) -> None:
    """A second after a change the log is written to the disk, not only given to the system."""
    store = open_store(path)
    await put(store, 1)

    def flushes() -> int:
        with closing(sqlite3.connect(path)) as file:
            return int(file.execute("SELECT flushes FROM totals").fetchone()[0])

    until(lambda: flushes() == 1)
    await store.close()
