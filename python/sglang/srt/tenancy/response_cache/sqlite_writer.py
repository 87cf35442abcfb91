"""The one thread of a process that changes the file of ``SqliteStore``."""

from __future__ import annotations

import contextlib
import queue
import sqlite3
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, TypeVar

from sglang.srt.tenancy.response_cache.outage import Outage
from sglang.srt.tenancy.response_cache.sqlite_entries import Entries
from sglang.srt.tenancy.response_cache.store import StoreError

_T = TypeVar("_T")

_SECOND = 1.0
_BATCH = 256  # steps of one transaction
# What SQLite and the file system, but no fault of ours, may raise.
FILE_ERRORS = (sqlite3.Error, OSError, OverflowError, MemoryError)


@dataclass(frozen=True, slots=True)
class _Step:
    """``otherwise``: the result where the transaction fails. ``forgets``: what it deletes is to be
    gone from the log, too."""

    run: Callable[[Entries], Any]
    otherwise: Any
    forgets: bool
    done: Future[Any]


class Writer:
    """Does steps one after the other, those that wait together in one transaction.

    What is done is in the file, whatever becomes of this process; what is older than a second, on
    the disk. ``open_file``: may raise StoreError, which only the constructor passes on.
    ``first``: begins each transaction; ``went``: is called after each.
    """

    def __init__(
        self,
        open_file: Callable[[], sqlite3.Connection],
        outage: Outage,
        first: Callable[[Entries], None],
        went: Callable[[], None],
    ):
        self._open_file = open_file
        self._outage = outage
        self._first = first
        self._went = went
        self._file: sqlite3.Connection | None = None
        self._evicted = self._expired = 0
        self._steps: queue.SimpleQueue[_Step | None] = queue.SimpleQueue()
        self._closed = False
        self._closing = threading.Lock()  # nothing waits behind the end
        self._flushed = time.monotonic()
        self._unflushed = False
        try:
            self._file = open_file()
        except FILE_ERRORS as error:
            outage.failed(error)
        self._thread = threading.Thread(target=self._run, name="response-cache", daemon=True)
        self._thread.start()

    @property
    def evicted(self) -> int:
        return self._evicted

    @property
    def expired(self) -> int:
        return self._expired

    def do(
        self, run: Callable[[Entries], _T], otherwise: _T, *, forgets: bool = False
    ) -> Future[_T]:
        """Return what will be the result of a step, or ``otherwise``."""
        done: Future[_T] = Future()
        with self._closing:
            if not self._closed:
                self._steps.put(_Step(run, otherwise, forgets, done))
                return done
        done.set_result(otherwise)
        return done

    def close(self) -> None:
        """Do what waits, and end the thread."""
        with self._closing:
            if not self._closed:
                self._closed = True
                self._steps.put(None)
        self._thread.join()

    def _run(self) -> None:
        ending = False
        while not ending:
            batch, ending = self._take()
            self._transact([step for step in batch if step.done.set_running_or_notify_cancel()])
        if self._file is not None:
            with contextlib.suppress(*FILE_ERRORS):
                self._file.close()

    def _take(self) -> tuple[list[_Step], bool]:
        """Wait for a step, a second at most, and take those that are there. True: it is the end."""
        batch: list[_Step] = []
        wait = _SECOND
        with contextlib.suppress(queue.Empty):
            while len(batch) < _BATCH:
                step = self._steps.get(timeout=wait) if wait else self._steps.get_nowait()
                if step is None:
                    return batch, True
                batch.append(step)
                wait = 0.0
        return batch, False

    def _transact(self, batch: list[_Step]) -> None:
        """Do steps in one transaction; with none, what is to be done each second."""
        forget = any(step.forgets for step in batch)
        results = [step.otherwise for step in batch]
        if forget or self._outage.may_try():
            try:
                results = self._try(batch)
                if forget:
                    self._shorten_log()
                self._outage.went_well()
                self._went()
            except (*FILE_ERRORS, StoreError) as error:
                self._outage.failed(error)
                self._drop_file()
        for step, result in zip(batch, results, strict=True):
            step.done.set_result(result)

    def _try(self, batch: list[_Step]) -> list[Any]:
        file = self._file = self._file or self._open_file()
        entries = Entries(file)
        flush = self._unflushed and time.monotonic() >= self._flushed + _SECOND
        if flush:
            # Waits for the disk; the commits before it are in the same log.
            file.execute("PRAGMA synchronous = FULL")
        before = file.total_changes
        file.execute("BEGIN IMMEDIATE")
        self._first(entries)
        results = [step.run(entries) for step in batch]
        if flush:
            file.execute("UPDATE totals SET flushes = flushes + 1")
        file.execute("COMMIT")
        self._evicted += entries.evicted
        self._expired += entries.expired
        if flush:
            file.execute("PRAGMA synchronous = NORMAL")
            self._flushed, self._unflushed = time.monotonic(), False
        elif file.total_changes > before:
            self._unflushed = True
        return results

    def _shorten_log(self) -> None:
        """Where another process reads, the next checkpoint does it."""
        if self._file is not None:
            self._file.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def _drop_file(self) -> None:
        """Let go of a connection after an error; that rolls back."""
        if self._file is not None:
            with contextlib.suppress(*FILE_ERRORS):
                self._file.close()
            self._file = None
