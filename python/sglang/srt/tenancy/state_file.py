"""``--tenant-state``: what operators set at run time, kept over restarts in one SQLite file."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from sglang.srt.tenancy.user_settings import SettingsError, UserSettings

_VERSION = 1
_APPLICATION = 0x7E4A47  # says in the file's header whose it is
_PATIENCE = 10.0  # seconds, while another HTTP process writes


class StateError(ValueError):
    """A state file that cannot be used, or not now: which, why, and the way out."""


class StateFile:
    """One process's connection. Each change is one transaction; a crash loses none that ended."""

    def __init__(self, path: str):
        """Open the file, or make it, readable by nobody else. Raises StateError."""
        self._path = path
        with self._explained():
            if not Path(path).exists():
                os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))
            # Transactions are ours; their steps may run in different threads, one at a time.
            self._file = sqlite3.connect(
                path, timeout=_PATIENCE, isolation_level=None, check_same_thread=False
            )
            try:
                self._prepare()
            except BaseException:
                self._file.close()
                raise

    def _prepare(self) -> None:
        version = self._pragma("user_version")
        if version == 0 and not self._pragma("schema_version"):
            self._file.execute("PRAGMA journal_mode = WAL")
            self._file.executescript(
                f"""
                BEGIN IMMEDIATE;
                CREATE TABLE IF NOT EXISTS users (id TEXT PRIMARY KEY, settings TEXT NOT NULL);
                PRAGMA application_id = {_APPLICATION};
                PRAGMA user_version = {_VERSION};
                COMMIT;
                """
            )
        elif self._pragma("application_id") != _APPLICATION:
            raise self._error("another program's database; give a path of its own")
        elif version != _VERSION:
            raise self._error(
                f"of version {version}, and this server reads {_VERSION}; start the version that "
                "made it, or give another path"
            )

    def load(self) -> dict[str, UserSettings]:
        """Read all that was set, by user or DEFAULT. Raises StateError."""
        with self._explained():
            rows = self._file.execute("SELECT id, settings FROM users ORDER BY id").fetchall()
        try:
            return {user: UserSettings.read(json.loads(text)) for user, text in rows}
        except (SettingsError, ValueError, AttributeError) as error:
            raise self._error(f"it holds settings that cannot be used ({error})") from None

    def begin(self, user: str, settings: UserSettings | None) -> None:
        """Write one user's settings, or that there are none; ``commit`` or ``rollback`` ends it.

        Raises StateError, also where another process has not ended its change in time.
        """
        with self._explained():
            self._file.execute("BEGIN IMMEDIATE")
            try:
                if settings is None:
                    self._file.execute("DELETE FROM users WHERE id = ?", (user,))
                else:
                    row = user, json.dumps(settings.given())
                    self._file.execute("INSERT OR REPLACE INTO users VALUES (?, ?)", row)
            except BaseException:
                self._file.execute("ROLLBACK")
                raise

    def commit(self) -> None:
        """Raises StateError; then nothing was written."""
        with self._explained():
            try:
                self._file.execute("COMMIT")
            except BaseException:
                self.rollback()
                raise

    def rollback(self) -> None:
        if self._file.in_transaction:
            self._file.execute("ROLLBACK")

    def close(self) -> None:
        self._file.close()

    def _pragma(self, name: str) -> int:
        return int(self._file.execute(f"PRAGMA {name}").fetchone()[0])

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except (OSError, sqlite3.Error) as error:
            raise self._error(f"it cannot be used ({error})") from None

    def _error(self, problem: str) -> StateError:
        return StateError(f"--tenant-state {self._path}: {problem}")
