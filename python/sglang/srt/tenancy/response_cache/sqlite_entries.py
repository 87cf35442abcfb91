"""What ``SqliteStore`` does to its tables, inside a transaction of its writer."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass

from sglang.srt.tenancy.response_cache.sqlite_open import CLEAR_ALL, run

# Owners of whom it is remembered when they were cleared. Tickets from before the first of them are
# refused, whoever's they are.
_CLEARED = 1000


@dataclass(frozen=True, slots=True)
class Row:
    """An entry to be kept. ``owner``: a tag. ``size``: with OVERHEAD. ``clears``: the ticket."""

    owner: str
    digest: bytes
    created: float
    used: int
    size: int
    data: bytes
    clears: int


class Entries:
    """The tables behind one connection. ``evicted`` and ``expired`` count what was dropped."""

    def __init__(self, file: sqlite3.Connection):
        self._file = file
        self.evicted = 0
        self.expired = 0

    def keep(self, row: Row, bound: int, room: int) -> bool:
        """Insert an entry and evict what is too much. False: its ticket is not good any more.

        ``bound``: bytes that its owner may hold; ``room``: that all may.
        """
        if row.clears < self._last_clear(row.owner):
            return False
        found = self._file.execute(
            "SELECT id FROM entries WHERE owner = ? AND digest = ?", (row.owner, row.digest)
        )
        if last := found.fetchone():
            self._drop(last[0])
        self._file.execute(
            "INSERT INTO entries (owner, digest, created, used, size, data)"
            " VALUES (?, ?, ?, ?, ?, ?)",
            (row.owner, row.digest, row.created, row.used, row.size, row.data),
        )
        self._file.execute(
            "INSERT INTO owners VALUES (?, 1, ?, ?) ON CONFLICT (owner) DO UPDATE SET"
            " entries = entries + 1, size = size + excluded.size,"
            " oldest = min(oldest, excluded.oldest)",
            (row.owner, row.size, row.used),
        )
        self._file.execute("UPDATE totals SET entries = entries + 1, size = size + ?", (row.size,))
        while self.held(row.owner)[1] > bound:
            self._evict(row.owner)
        self.make_room(room, row.owner)
        return True

    def touch(self, used: Mapping[tuple[str, bytes], int]) -> None:
        """Note when entries were used last."""
        for (owner, digest), when in used.items():
            changed = self._file.execute(
                "UPDATE entries SET used = ? WHERE owner = ? AND digest = ? AND used < ?",
                (when, owner, digest, when),
            )
            if changed.rowcount:
                self._refresh_oldest(owner)

    def make_room(self, room: int, putting: str = "") -> None:
        """Evict from whoever holds most, down to ``room`` bytes.

        ``putting``: whose last entry stays; it was just put.
        """
        while self.held()[1] > room:
            owners = self._file.execute(
                "SELECT owner, entries FROM owners ORDER BY size DESC, oldest LIMIT 2"
            ).fetchall()
            victim = next(name for name, entries in owners if name != putting or entries > 1)
            self._evict(victim)

    def expire(self, created: float, most: int | None = None) -> None:
        """Drop entries that were created then or before. ``most``: so many; None: all."""
        over = self._file.execute(
            "SELECT id FROM entries WHERE created <= ? ORDER BY created LIMIT ?",
            (created, -1 if most is None else most),
        ).fetchall()
        for (number,) in over:
            self._drop(number)
        self.expired += len(over)

    def clear(self, owner: str | None) -> int:
        """Drop one owner's entries, or all, and refuse what older tickets bring."""
        dropped, size = self.held(owner)
        if owner is None:
            run(self._file, CLEAR_ALL)
            return dropped
        self._file.execute("DELETE FROM entries WHERE owner = ?", (owner,))
        self._file.execute("DELETE FROM owners WHERE owner = ?", (owner,))
        self._file.execute(
            "UPDATE totals SET entries = entries - ?, size = size - ?, clears = clears + 1",
            (dropped, size),
        )
        self._file.execute("INSERT OR REPLACE INTO cleared SELECT ?, clears FROM totals", (owner,))
        self._forget_clears()
        return dropped

    def held(self, owner: str | None = None) -> tuple[int, int]:
        """Return how many entries there are, and their bytes."""
        if owner is None:
            found = self._file.execute("SELECT entries, size FROM totals")
        else:
            found = self._file.execute("SELECT entries, size FROM owners WHERE owner = ?", (owner,))
        return found.fetchone() or (0, 0)

    def _last_clear(self, owner: str) -> int:
        """Return how good a ticket must be."""
        [(clears,)] = self._file.execute(
            "SELECT max(floor, coalesce((SELECT clears FROM cleared WHERE owner = ?), 0))"
            " FROM totals",
            (owner,),
        )
        return int(clears)

    def _forget_clears(self) -> None:
        [(many,)] = self._file.execute("SELECT count(*) FROM cleared")
        if many > _CLEARED:
            [(first,)] = self._file.execute("SELECT min(clears) FROM cleared")
            self._file.execute("DELETE FROM cleared WHERE clears = ?", (first,))
            self._file.execute("UPDATE totals SET floor = ?", (first,))

    def _evict(self, owner: str) -> None:
        [(number,)] = self._file.execute(
            "SELECT id FROM entries WHERE owner = ? ORDER BY used LIMIT 1", (owner,)
        )
        self._drop(number)
        self.evicted += 1

    def _drop(self, number: int) -> None:
        [(owner, size)] = self._file.execute(
            "SELECT owner, size FROM entries WHERE id = ?", (number,)
        )
        self._file.execute("DELETE FROM entries WHERE id = ?", (number,))
        self._file.execute("UPDATE totals SET entries = entries - 1, size = size - ?", (size,))
        self._file.execute(
            "UPDATE owners SET entries = entries - 1, size = size - ? WHERE owner = ?",
            (size, owner),
        )
        self._file.execute("DELETE FROM owners WHERE owner = ? AND entries = 0", (owner,))
        self._refresh_oldest(owner)

    def _refresh_oldest(self, owner: str) -> None:
        self._file.execute(
            "UPDATE owners SET oldest = (SELECT min(used) FROM entries WHERE owner = ?1)"
            " WHERE owner = ?1",
            (owner,),
        )
