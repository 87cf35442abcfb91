"""Responses in a file that is not there, locked, full or damaged: requests go on without."""

from __future__ import annotations

import resource
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from support.response_stores import (
    entry,
    has,
    key,
    put,
    warnings,
)
from support.response_writer import (
    open_store,
)

from sglang.srt.tenancy.response_cache import sqlite_file


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "cache")


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Try again at once, and wait for nobody."""
    monkeypatch.setattr(sqlite_file, "_PAUSE", 0.0)
    monkeypatch.setattr("sglang.srt.tenancy.response_cache.sqlite_open.WRITE_PATIENCE", 0.05)


@pytest.mark.usefixtures("impatient")
async def test_a_folder_that_is_not_there_is_waited_for(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = open_store(str(tmp_path / "none" / "cache"))
    for number in range(3):
        assert not await put(store, number)
    assert await store.clear() == 0
    stats = await store.stats()
    assert stats.entries == 0
    assert stats.failures >= 6
    assert len(warnings(caplog)) == 2  # reading and writing
    (tmp_path / "none").mkdir()
    await store.stats()
    assert await put(store, 1)
    await store.close()


@pytest.mark.usefixtures("impatient")
async def test_a_file_that_another_program_locks_is_gone_on_without(
    path: str, caplog: pytest.LogCaptureFixture
) -> None:
    store = open_store(path)
    await put(store, 1)
    await put(store, 1, "ben")
    ticket = (await store.get(key("ann", 2))).ticket
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        assert not await put(store, 2)
        assert not await put(store, 3)
        assert await has(store, 1)
        # Erasing is not forgotten; until then nothing of theirs is shown.
        assert await store.clear("ann") == 0
        assert not await has(store, 1)
        assert await has(store, 1, "ben")
        other.execute("ROLLBACK")
    assert len(warnings(caplog)) == 1
    assert "it cannot be written (database is locked)" in caplog.text
    assert not await store.put(key("ann", 2), entry(b"late"), ticket)
    assert not await has(store, 1)
    assert await put(store, 1)
    stats = await store.stats()
    assert stats.entries == 2
    assert stats.failures >= 3
    await store.close()


@pytest.mark.usefixtures("impatient")
async def test_a_full_disk_is_gone_on_without(path: str, caplog: pytest.LogCaptureFixture) -> None:
    """The system refuses to let files grow."""
    store = open_store(path)
    assert await put(store, 1)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    log = Path(f"{path}-wal").stat().st_size
    resource.setrlimit(resource.RLIMIT_FSIZE, (log + 10_000, hard))
    try:
        kept = [await put(store, number, size=50_000) for number in range(2, 6)]
        found = [await has(store, number) for number in (1, 2)]
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert kept == [False] * 4
    assert found == [True, False]
    assert len(warnings(caplog)) == 1
    assert await put(store, 2, size=50_000)
    stats = await store.stats()
    assert (stats.entries, stats.failures) == (2, 4)
    await store.close()
    with closing(sqlite3.connect(path)) as file:
        assert file.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


async def test_a_damaged_entry_is_a_miss(path: str, caplog: pytest.LogCaptureFixture) -> None:
    store = open_store(path)
    await put(store, 1)
    await put(store, 2)
    damage = "UPDATE entries SET data = zeroblob(length(data)) WHERE digest = ?"
    with closing(sqlite3.connect(path)) as file, file:
        file.execute(damage, (key("ann", 1).digest,))
    assert not await has(store, 1)
    assert await has(store, 2)
    assert "damaged" in caplog.text
    assert (await store.stats()).failures == 1
    assert await put(store, 1)
    assert await has(store, 1)
    await store.close()
