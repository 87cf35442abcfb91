"""What stores of responses must do, told by a model that looks everything up anew, and plays on
both."""

from __future__ import annotations

import logging
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import pytest

from sglang.srt.tenancy.response_cache.entry import Entry, Key
from sglang.srt.tenancy.response_cache.store import OVERHEAD, ResponseStore, StoreStats

OWNERS = ("ann", "ben", "cid", "dan", "eve", "?anonymous")
SHARES = {"ann": 1.0, "ben": 0.5, "cid": 0.25, "dan": 0.01}
ROOM = 6000
TTL = 100.0
START = 1_800_000_000.0

Events = Counter[str]


def share(owner: str) -> float:
    return SHARES.get(owner, 0.4)


def tag(owner: str) -> str:
    return f"tag{owner[::-1].encode().hex()}"


def key(owner: str, number: int) -> Key:
    return Key(owner, number.to_bytes(32, "big"))


def entry(*bodies: bytes, created: float = START, seconds: float = 0.5) -> Entry:
    return Entry(created, seconds, bodies)


async def put(
    store: ResponseStore, number: int, owner: str = "ann", size: int = 100, created: float = START
) -> bool:
    """Store an answer of some bytes, after asking for it."""
    ticket = (await store.get(key(owner, number))).ticket
    return await store.put(key(owner, number), entry(b"x" * size, created=created), ticket)


async def has(store: ResponseStore, number: int, owner: str = "ann") -> bool:
    return (await store.get(key(owner, number))).entry is not None


def everything(owner: str) -> float:
    """The share of each, where none is meant to be less."""
    return 1.0


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.message for record in caplog.records if record.levelno >= logging.WARNING]


class Clock:
    """Unix time that goes on when it is told to."""

    def __init__(self) -> None:
        self.time = START

    def __call__(self) -> float:
        return self.time


@dataclass
class _Held:
    key: Key
    entry: Entry
    used: int

    @property
    def size(self) -> int:
        return sum(map(len, self.entry.bodies)) + OVERHEAD


class Model:
    """Keeps entries in one list. ``room``: None: as much as comes, but no entry above
    ``largest``."""

    def __init__(self, room: int | None, ttl: float | None, now: Clock, largest: int = 10**9):
        self.room, self.ttl, self.now, self.largest = room, ttl, now, largest
        self.held: list[_Held] = []
        self.cleared: Counter[str] = Counter()
        self.uses = self.evicted = self.expired = 0

    def get(self, wanted: Key) -> tuple[Entry | None, int]:
        self._expire()
        for held in self.held:
            if held.key == wanted:
                held.used = self._use()
                return held.entry, self.cleared[wanted.owner]
        return None, self.cleared[wanted.owner]

    def put(self, new: Key, entry: Entry, ticket: int) -> bool:
        self._expire()
        over = self.ttl is not None and entry.created + self.ttl <= self.now()
        held = _Held(new, entry, 0)
        bound = self.largest
        if self.room is not None:
            bound = min(self.room, int(share(new.owner) * self.room))
        if ticket != self.cleared[new.owner] or over or held.size > bound:
            return False
        self.held = [other for other in self.held if other.key != new]
        held.used = self._use()
        self.held.append(held)
        if self.room is not None:
            while self.size(new.owner) > bound:
                self._evict(new.owner)
            while self.size() > self.room:
                self._evict(self._most(held))
        return True

    def clear(self, owner: str | None) -> int:
        self._expire()
        before = len(self.held)
        self.held = [held for held in self.held if owner not in (None, held.key.owner)]
        for name in OWNERS if owner is None else (owner,):
            self.cleared[name] += 1
        return before - len(self.held)

    def size(self, owner: str | None = None) -> int:
        return sum(held.size for held in self.of(owner))

    def of(self, owner: str | None) -> list[_Held]:
        return [held for held in self.held if owner in (None, held.key.owner)]

    def _use(self) -> int:
        self.uses += 1
        return self.uses

    def _oldest(self, owner: str) -> _Held:
        return min(self.of(owner), key=lambda held: held.used)

    def _most(self, newest: _Held) -> str:
        """Who holds most, and has not used the oldest of it for longest; not for what is new."""
        names = {held.key.owner for held in self.held if held is not newest}
        return max(names, key=lambda name: (self.size(name), -self._oldest(name).used))

    def _evict(self, owner: str) -> None:
        self.held.remove(self._oldest(owner))
        self.evicted += 1

    def _expire(self) -> None:
        if self.ttl is not None:
            there = [held for held in self.held if held.entry.created + self.ttl > self.now()]
            self.expired += len(self.held) - len(there)
            self.held = there


class Play:
    """Does the same random steps to a store and to the model, and compares after each.

    ``pass_time``: lets seconds pass for the store, the clock's own besides. ``restart``: closes and
    opens the store; None: it has nothing to open.
    """

    def __init__(
        self,
        store: ResponseStore,
        model: Model,
        seed: int,
        pass_time: Callable[[float], Awaitable[None]],
        restart: Callable[[], Awaitable[ResponseStore]] | None = None,
    ):
        self.store, self.model = store, model
        self._random = random.Random(seed)
        self._pass_time, self._restart = pass_time, restart
        self._flights: list[tuple[Key, object, int]] = []
        self.events: Events = Counter()

    async def run(self, steps: int) -> None:
        doings = [self._get, self._put, self._clear, self._wait, self._reopen]
        for step in range(steps):
            [doing] = self._random.choices(doings, (40, 45, 3, 6, 1))
            await doing()
            await self._compare(step)

    async def _get(self) -> None:
        wanted = self._key()
        found = await self.store.get(wanted)
        held, ticket = self.model.get(wanted)
        assert found.entry == held, (wanted, found.entry, held)
        self.events["misses" if held is None else "hits"] += 1
        self._flights.append((wanted, found.ticket, ticket))

    async def _put(self) -> None:
        if not self._flights:
            return
        wanted, ticket, of_model = self._flights.pop(self._random.randrange(len(self._flights)))
        new = self._entry()
        kept = await self.store.put(wanted, new, ticket)
        evicted = self.model.evicted
        assert kept == self.model.put(wanted, new, of_model), (wanted, new)
        late = of_model != self.model.cleared[wanted.owner]
        self.events["late" if late else "kept" if kept else "refused"] += 1
        self.events["evictions"] += self.model.evicted - evicted

    async def _clear(self) -> None:
        owner = self._random.choice((*OWNERS, *OWNERS, None))
        assert await self.store.clear(owner) == self.model.clear(owner), owner
        self.events["clears"] += 1

    async def _wait(self) -> None:
        seconds = self._random.choice((1.0, 1.0, 5.0, 20.0, TTL))
        self.model.now.time += seconds
        await self._pass_time(seconds)

    async def _reopen(self) -> None:
        if self._restart is not None:
            self.store = await self._restart()
            self.model.evicted = self.model.expired = 0
            self._flights.clear()  # they were of the process that ended
            self.events["restarts"] += 1

    def _key(self) -> Key:
        return key(self._random.choice(OWNERS), self._random.randrange(5))

    def _entry(self) -> Entry:
        number = self._random.choice((0, 1, 1, 1, 3))
        longest = self._random.choice((10, 300, 300, 1500, 8000))
        bodies = [self._random.randbytes(self._random.randrange(longest)) for _ in range(number)]
        if self._random.random() < 0.6:
            bodies = [self._random.randbytes(300)]  # or no two owners would hold as much
        created = self.model.now() - self._random.choice((0.0, 0.0, 5.5, TTL - 1, TTL + 1))
        return entry(*bodies, created=created, seconds=self._random.random())

    async def _compare(self, step: int) -> None:
        model = self.model
        model.clear("nobody")  # whose time is over, is over
        expected = {owner: (len(model.of(owner)), model.size(owner)) for owner in (None, *OWNERS)}
        for owner, counts in expected.items():
            stats = await self.store.stats(owner)
            assert (stats.entries, stats.size) == counts, (step, owner, stats, counts)
        if model.room is not None:
            whole: StoreStats = await self.store.stats()
            assert whole.size <= model.room
            assert whole == StoreStats(
                *expected[None], model.room, model.evicted, model.expired, failures=0
            )
