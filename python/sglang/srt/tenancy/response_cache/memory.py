"""Entries in this process's memory."""

from __future__ import annotations

import time
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Any

from sglang.srt.tenancy.response_cache.entry import Entry, Key
from sglang.srt.tenancy.response_cache.lazy_heap import LazyHeap
from sglang.srt.tenancy.response_cache.store import OVERHEAD, Found, StoreStats

# Entries whose time is over that a request removes: all of a large store would keep it waiting.
_EXPIRE_AT_ONCE = 64


class _Ticket:
    """What all of an owner's requests since the last clear hold, and nobody else does: an owner
    without any has none."""

    __slots__ = ("__weakref__", "good", "owner")

    def __init__(self, owner: str):
        self.owner = owner
        self.good = True


class _Held:
    """One entry in the store. ``used``: when it last was, counted in uses."""

    __slots__ = ("digest", "entry", "expires", "owner", "record", "size", "used")

    def __init__(self, owner: _Owner, digest: bytes, entry: Entry, size: int, expires: float):
        self.owner = owner
        self.digest = digest
        self.entry = entry
        self.size = size
        self.expires = expires
        self.used = 0
        self.record: tuple[Any, int, Any] | None = None


class _Owner:
    """One owner's entries, the least recently used first."""

    __slots__ = ("held", "name", "record", "size")

    def __init__(self, name: str):
        self.name = name
        self.held: OrderedDict[bytes, _Held] = OrderedDict()
        self.size = 0
        self.record: tuple[Any, int, Any] | None = None

    @property
    def oldest(self) -> _Held:
        return next(iter(self.held.values()))


def _most_first(owner: _Owner) -> tuple[int, int]:
    """Rank owners: by what they hold, then by whose oldest entry was not used for longest."""
    return -owner.size, owner.oldest.used


def _soonest_first(held: _Held) -> float:
    return held.expires


class MemoryStore:
    """A ``ResponseStore`` of ``size`` bytes.

    ``ttl``: seconds from an entry's creation after which it is gone; None: never. ``share``: of an
    owner, the most of the size that they may hold. ``now``: tells Unix time.
    """

    def __init__(
        self,
        size: int,
        ttl: float | None,
        share: Callable[[str], float],
        now: Callable[[], float] = time.time,
    ):
        self._room = size
        self._ttl = ttl
        self._share = share
        self._now = now
        self._uses = 0
        self._tickets: weakref.WeakValueDictionary[str, _Ticket] = weakref.WeakValueDictionary()
        self._evicted = self._expired = 0
        self._empty()

    def _empty(self) -> None:
        self._owners: dict[str, _Owner] = {}
        self._by_size: LazyHeap[_Owner] = LazyHeap(_most_first)
        self._by_age: LazyHeap[_Held] = LazyHeap(_soonest_first)
        self._entries = self._size = 0

    async def get(self, key: Key) -> Found:
        self._expire(_EXPIRE_AT_ONCE)
        ticket = self._tickets.get(key.owner)
        if ticket is None:
            ticket = self._tickets[key.owner] = _Ticket(key.owner)
        owner = self._owners.get(key.owner)
        held = owner.held.get(key.digest) if owner else None
        if owner is None or held is None or held.expires <= self._now():
            return Found(None, ticket)
        owner.held.move_to_end(key.digest)
        held.used = self._use()
        return Found(held.entry, ticket)

    async def put(self, key: Key, entry: Entry, ticket: object) -> bool:
        self._expire(_EXPIRE_AT_ONCE)
        if not isinstance(ticket, _Ticket) or not ticket.good or ticket.owner != key.owner:
            return False
        expires = entry.created + self._ttl if self._ttl is not None else float("inf")
        bound = min(self._room, int(self._share(key.owner) * self._room))
        size = entry.size + OVERHEAD
        if size > bound or expires <= self._now():
            return False
        owner = self._owners.get(key.owner)
        if owner is None:
            owner = self._owners[key.owner] = _Owner(key.owner)
        if last := owner.held.get(key.digest):
            self._take_out(last)
        self._take_in(_Held(owner, key.digest, entry, size, expires))
        self._make_room(owner, bound)
        return True

    async def clear(self, owner: str | None = None) -> int:
        self._expire()
        for ticket in list(self._tickets_of(owner)):
            ticket.good = False
            del self._tickets[ticket.owner]
        if owner is None:
            dropped = self._entries
            self._empty()
        elif there := self._owners.get(owner):
            dropped = len(there.held)
            for held in list(there.held.values()):
                self._drop(held)
        else:
            dropped = 0
        return dropped

    async def stats(self, owner: str | None = None) -> StoreStats:
        self._expire()
        if owner is None:
            return StoreStats(self._entries, self._size, self._room, self._evicted, self._expired)
        there = self._owners.get(owner)
        room = min(self._room, int(self._share(owner) * self._room))
        return StoreStats(len(there.held) if there else 0, there.size if there else 0, room)

    async def close(self) -> None:
        pass

    def _use(self) -> int:
        self._uses += 1
        return self._uses

    def _tickets_of(self, owner: str | None) -> Iterator[_Ticket]:
        if owner is None:
            yield from self._tickets.values()
        elif ticket := self._tickets.get(owner):
            yield ticket

    def _take_in(self, held: _Held) -> None:
        held.used = self._use()
        owner = held.owner
        owner.held[held.digest] = held
        owner.size += held.size
        self._size += held.size
        self._entries += 1
        self._by_size.push(owner)
        if self._ttl is not None:
            self._by_age.push(held)

    def _take_out(self, held: _Held) -> None:
        """Remove an entry whose owner stays."""
        del held.owner.held[held.digest]
        held.owner.size -= held.size
        self._size -= held.size
        self._entries -= 1
        self._by_age.remove(held)

    def _drop(self, held: _Held) -> None:
        """Remove an entry, and its owner with the last one."""
        self._take_out(held)
        if not held.owner.held:
            self._by_size.remove(held.owner)
            del self._owners[held.owner.name]

    def _expire(self, most: int | None = None) -> None:
        """Drop entries whose time is over. ``most``: so many; None: all."""
        if not self._by_age:
            return
        now = self._now()
        for _ in range(self._entries if most is None else most):
            held = self._by_age.first()
            if held is None or held.expires > now:
                break
            self._drop(held)
            self._expired += 1

    def _make_room(self, putting: _Owner, bound: int) -> None:
        """Evict what the owner who puts holds above their bound, then whoever holds most.

        What was just put stays: it is its owner's last, and its owner's older entries went before.
        """
        while putting.size > bound:
            self._evict(putting)
        if self._size > self._room and len(putting.held) == 1:
            self._by_size.remove(putting)
        while self._size > self._room:
            owner = self._by_size.first()
            assert owner is not None, "one entry alone fits"
            self._evict(owner)
            if len(putting.held) == 1:
                self._by_size.remove(putting)
        if putting.record is None:
            self._by_size.push(putting)

    def _evict(self, owner: _Owner) -> None:
        self._drop(owner.oldest)
        self._evicted += 1
