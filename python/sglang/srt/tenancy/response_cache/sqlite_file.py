"""Entries in an SQLite file, that outlive the server, and that its HTTP processes share."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial

from sglang.srt.tenancy.response_cache import sqlite_open
from sglang.srt.tenancy.response_cache.entry import Entry, Key
from sglang.srt.tenancy.response_cache.outage import Outage, OwedClears
from sglang.srt.tenancy.response_cache.packing import PackingError, pack, unpack
from sglang.srt.tenancy.response_cache.sqlite_entries import Entries, Row
from sglang.srt.tenancy.response_cache.sqlite_writer import FILE_ERRORS, Writer
from sglang.srt.tenancy.response_cache.store import OVERHEAD, Found, StoreStats

_PAUSE = 5.0  # seconds in which a file that failed is left alone
_READERS = 4  # threads
_USES = 100_000  # that may wait to be written down; the oldest are forgotten
_EXPIRE_AT_ONCE = 500
_NOBODY = "?check"  # no user's id


class SqliteStore:
    """A ``ResponseStore`` of ``size`` bytes; the file is somewhat larger, and never shrinks.

    ``ttl``, ``share``, ``now``: as ``MemoryStore`` has them. ``tag``: names an owner so that who
    reads the file cannot tell who it is; the same after a restart. Raises StoreError for a file
    that is not ours, or of another version.
    """

    def __init__(
        self,
        path: str,
        size: int,
        ttl: float | None,
        share: Callable[[str], float],
        tag: Callable[[str], str],
        now: Callable[[], float] = time.time,
    ):
        self._path = path
        self._room = size
        self._ttl = ttl
        self._share = share
        self._tag = tag
        self._now = now
        self._last_use = 0
        self._uses: deque[tuple[str, bytes, int]] = deque(maxlen=_USES)
        self._owed = OwedClears()
        self._paid: list[str | None] = []
        self._readers = ThreadPoolExecutor(_READERS, "response-cache-read")
        self._local = threading.local()
        self._files: list[sqlite3.Connection] = []
        self._read_outage = Outage(f"response cache {path}: it cannot be read", _PAUSE)
        self._write_outage = Outage(f"response cache {path}: it cannot be written", _PAUSE)
        self._damages = Outage(f"response cache {path}: it holds a damaged entry", 0.0)
        open_file = partial(sqlite_open.open_to_write, path, tag(_NOBODY))
        self._writer = Writer(open_file, self._write_outage, self._begin, self._went)
        self._writer.do(lambda entries: entries.make_room(size), None)  # it may have been larger
        self._closed = False

    async def get(self, key: Key) -> Found:
        owner = self._tag(key.owner)
        if self._closed or self._owed.cover(owner) or not self._read_outage.may_try():
            return Found(None, None)
        use = self._use()
        loop = asyncio.get_running_loop()
        try:
            clears, data = await loop.run_in_executor(self._readers, self._read, owner, key.digest)
        except FILE_ERRORS as error:
            self._read_outage.failed(error)
            return Found(None, None)
        self._read_outage.went_well()
        if self._owed.cover(owner):  # meanwhile
            return Found(None, None)
        entry = self._unpack(data)
        if entry is None or self._is_over(entry):
            return Found(None, clears)
        self._uses.append((owner, key.digest, use))
        return Found(entry, clears)

    async def put(self, key: Key, entry: Entry, ticket: object) -> bool:
        if not isinstance(ticket, int) or self._is_over(entry):
            return False
        bound = self._bound(key.owner)
        size = entry.size + OVERHEAD
        if size > bound:
            return False
        owner = self._tag(key.owner)
        row = Row(owner, key.digest, entry.created, self._use(), size, pack(entry), ticket)
        done = self._writer.do(lambda entries: entries.keep(row, bound, self._room), False)
        return await asyncio.wrap_future(done)

    async def clear(self, owner: str | None = None) -> int:
        """As the protocol says; where the file cannot be written, it is done as soon as it can."""
        tag = None if owner is None else self._tag(owner)
        done = self._writer.do(partial(_clear, owner=tag), None, forgets=True)
        done.add_done_callback(partial(self._owe, tag))
        return await asyncio.shield(asyncio.wrap_future(done)) or 0

    async def stats(self, owner: str | None = None) -> StoreStats:
        tag = None if owner is None else self._tag(owner)
        nothing = 0, 0
        entries, size = await asyncio.wrap_future(
            self._writer.do(lambda entries: self._count(entries, tag), nothing)
        )
        if owner is not None:
            return StoreStats(entries, size, self._bound(owner))
        outages = self._read_outage, self._write_outage, self._damages
        failures = sum(outage.failures for outage in outages)
        writer = self._writer
        return StoreStats(entries, size, self._room, writer.evicted, writer.expired, failures)

    async def close(self) -> None:
        self._closed = True
        await asyncio.to_thread(self._close)

    def _close(self) -> None:
        self._writer.close()
        self._readers.shutdown()
        for file in self._files:
            with contextlib.suppress(*FILE_ERRORS):
                file.close()

    def _bound(self, owner: str) -> int:
        return min(self._room, int(self._share(owner) * self._room))

    def _is_over(self, entry: Entry) -> bool:
        return self._ttl is not None and entry.created + self._ttl <= self._now()

    def _unpack(self, data: bytes | None) -> Entry | None:
        if data is None:
            return None
        try:
            return unpack(data)
        except PackingError as error:
            self._damages.failed(error)
            return None

    def _use(self) -> int:
        """Count up, in nanoseconds: other processes' uses are comparable, and after a restart."""
        self._last_use = max(time.time_ns(), self._last_use + 1)
        return self._last_use

    def _read(self, owner: str, digest: bytes) -> tuple[int, bytes | None]:
        """Return how often there were clears, and an entry; in a reading thread."""
        file: sqlite3.Connection | None = getattr(self._local, "file", None)
        if file is None:
            file = self._local.file = sqlite_open.open_to_read(self._path)
            self._files.append(file)
        try:
            [(clears, data)] = file.execute(
                "SELECT clears, data FROM totals LEFT JOIN entries ON owner = ? AND digest = ?",
                (owner, digest),
            ).fetchall()
        except FILE_ERRORS:
            self._files.remove(file)
            self._local.file = None
            file.close()
            raise
        return clears, data

    # In the writer's thread.

    def _begin(self, entries: Entries) -> None:
        """Do what has waited: clears that failed, uses, entries whose time is over."""
        self._paid = self._owed.owners()
        for owner in self._paid:
            entries.clear(owner)
        used: dict[tuple[str, bytes], int] = {}
        for _ in range(len(self._uses)):
            owner_tag, digest, when = self._uses.popleft()
            used[owner_tag, digest] = when
        entries.touch(used)
        if self._ttl is not None:
            entries.expire(self._now() - self._ttl, _EXPIRE_AT_ONCE)

    def _went(self) -> None:
        for owner in self._paid:
            self._owed.done(owner)

    def _owe(self, owner: str | None, done: Future[int | None]) -> None:
        if done.result() is None:
            self._owed.add(owner)

    def _count(self, entries: Entries, owner: str | None) -> tuple[int, int]:
        if self._ttl is not None:
            entries.expire(self._now() - self._ttl)
        return entries.held(owner)


def _clear(entries: Entries, owner: str | None) -> int | None:
    return entries.clear(owner)
