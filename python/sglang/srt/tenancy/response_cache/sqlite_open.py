"""Open the file of ``SqliteStore``, or make it; refuse one that is not ours."""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from sglang.srt.tenancy.response_cache.store import StoreError

logger = logging.getLogger(__name__)

_VERSION = 1
_APPLICATION = 0x7E4A48  # says in the file's header whose it is
_NOT_A_DATABASE = "not a database"
WRITE_PATIENCE = 2.0  # seconds, while another process writes
READ_PATIENCE = 0.5

# ``used`` and ``oldest``: nanoseconds, no two alike in one process. ``owners`` and ``totals`` count
# what ``entries`` holds. ``clears`` counts how often owners, or all, were cleared; ``cleared`` says
# at which count an owner last was; tickets from before ``floor`` are not good any more.
_SCHEMA = f"""
CREATE TABLE IF NOT EXISTS entries (
    id INTEGER PRIMARY KEY, owner TEXT NOT NULL, digest BLOB NOT NULL, created REAL NOT NULL,
    used INTEGER NOT NULL, size INTEGER NOT NULL, data BLOB NOT NULL, UNIQUE (owner, digest)
);
CREATE INDEX IF NOT EXISTS entries_by_use ON entries (owner, used);
CREATE INDEX IF NOT EXISTS entries_by_age ON entries (created);
CREATE TABLE IF NOT EXISTS owners (
    owner TEXT PRIMARY KEY, entries INTEGER NOT NULL, size INTEGER NOT NULL, oldest INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS owners_by_size ON owners (size DESC, oldest);
CREATE TABLE IF NOT EXISTS cleared (owner TEXT PRIMARY KEY, clears INTEGER NOT NULL) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS cleared_by_age ON cleared (clears);
CREATE TABLE IF NOT EXISTS totals (
    id INTEGER PRIMARY KEY CHECK (id = 1), entries INTEGER NOT NULL, size INTEGER NOT NULL,
    clears INTEGER NOT NULL, floor INTEGER NOT NULL, flushes INTEGER NOT NULL, tag TEXT NOT NULL
);
PRAGMA application_id = {_APPLICATION};
PRAGMA user_version = {_VERSION};
"""
CLEAR_ALL = """
DELETE FROM entries;
DELETE FROM owners;
DELETE FROM cleared;
UPDATE totals SET entries = 0, size = 0, clears = clears + 1, floor = clears + 1;
"""


def open_to_write(path: str, tag: str) -> sqlite3.Connection:
    """Open the file, or make it, readable by nobody else.

    ``tag``: of nobody, to tell whether owners are named with the key they were named with before.
    Raises StoreError for a file that is not ours or of another version, and sqlite3.Error and
    OSError for one that cannot be used now.
    """
    with contextlib.suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    file = _connect(path, WRITE_PATIENCE)
    try:
        _prepare(file, path, tag)
        os.chmod(path, 0o600)
        file.execute("PRAGMA synchronous = NORMAL")
        # What was evicted or erased is not to be found in the file.
        file.execute("PRAGMA secure_delete = ON")
        _check_tag(file, path, tag)
    except BaseException:
        file.close()
        raise
    return file


def open_to_read(path: str) -> sqlite3.Connection:
    """Open a file that is there. Raises sqlite3.Error."""
    file = _connect(path, READ_PATIENCE)
    file.execute("PRAGMA query_only = ON")
    return file


def _connect(path: str, patience: float) -> sqlite3.Connection:
    """Transactions are ours; the steps of one may run in different threads, one at a time."""
    uri = f"{Path(path).absolute().as_uri()}?mode=rw"
    return sqlite3.connect(
        uri, uri=True, timeout=patience, isolation_level=None, check_same_thread=False
    )


@contextlib.contextmanager
def _transaction(file: sqlite3.Connection) -> Iterator[None]:
    file.execute("BEGIN IMMEDIATE")
    try:
        yield
        file.execute("COMMIT")
    except BaseException:
        if file.in_transaction:
            file.execute("ROLLBACK")
        raise


def run(file: sqlite3.Connection, script: str) -> None:
    """Execute statements inside a transaction, which ``executescript`` would end."""
    for statement in script.split(";"):
        file.execute(statement)


def _prepare(file: sqlite3.Connection, path: str, tag: str) -> None:
    try:
        version, application = _pragma(file, "user_version"), _pragma(file, "application_id")
        fresh = version == 0 and _pragma(file, "schema_version") == 0
    except sqlite3.DatabaseError as error:
        if _NOT_A_DATABASE in str(error):
            raise _refusal(path, "it is no SQLite database; give a path of its own") from None
        raise
    if fresh:
        file.execute("PRAGMA journal_mode = WAL")
        with _transaction(file):
            run(file, _SCHEMA)
            first = "INSERT OR IGNORE INTO totals VALUES (1, 0, 0, 0, 0, 0, ?)"
            file.execute(first, (tag,))
    elif application != _APPLICATION:
        raise _refusal(path, "another program's database; give a path of its own")
    elif version != _VERSION:
        raise _refusal(
            path,
            f"of version {version}, and this server reads {_VERSION}; delete it, give another "
            "path, or start the version that made it",
        )


def _check_tag(file: sqlite3.Connection, path: str, tag: str) -> None:
    """Drop what was written under another key: nobody could find it, nor erase it by its owner."""
    [(last, entries)] = file.execute("SELECT tag, entries FROM totals").fetchall()
    if last == tag:
        return
    with _transaction(file):
        run(file, CLEAR_ALL)
        file.execute("UPDATE totals SET tag = ?", (tag,))
    if entries:
        logger.warning(
            "response cache %s: its owners are named with another process key; its %d entries are "
            "dropped (set SGLANG_TENANT_PROCESS_KEY to keep them over restarts)",
            path,
            entries,
        )


def _pragma(file: sqlite3.Connection, name: str) -> int:
    return int(file.execute(f"PRAGMA {name}").fetchone()[0])


def _refusal(path: str, problem: str) -> StoreError:
    return StoreError(f"response cache {path}: {problem}")
