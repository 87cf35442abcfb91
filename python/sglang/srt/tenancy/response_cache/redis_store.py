"""Entries in Redis, that several servers share."""

from __future__ import annotations

import math
import secrets
import time
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Any

from sglang.srt.tenancy.response_cache.entry import SCHEMA, Entry, Key
from sglang.srt.tenancy.response_cache.outage import Outage, OwedClears
from sglang.srt.tenancy.response_cache.packing import HEAD_SIZE, PackingError, pack, size_of, unpack
from sglang.srt.tenancy.response_cache.redis_client import REDIS_ERRORS, connect, is_away, shown
from sglang.srt.tenancy.response_cache.redis_scripts import GET, PUT
from sglang.srt.tenancy.response_cache.store import OVERHEAD, Found, StoreStats

if TYPE_CHECKING:
    from redis.asyncio import Redis

DEFAULT_TTL = 86_400.0
LARGEST = 16 << 20  # bytes of an entry; Redis serves nobody else while it moves one
_PREFIX = f"sglang:response:{SCHEMA}:"
_ENTRY = f"{_PREFIX}entry:"
_TOKEN = 16  # bytes
_TICKET = 2 * _TOKEN
_REQUEST = 3600.0  # seconds that one may take: its tokens live as long
_PAUSE = 2.0  # seconds in which a server that failed is left alone
_AT_ONCE = 500  # keys
_COUNTED_EVERY = 60.0  # seconds: counting all looks at each key


class RedisStore:
    """A ``ResponseStore`` whose room is Redis's own ``maxmemory``.

    ``ttl``, ``now``: as ``MemoryStore`` has them; None: a day. ``tag``: names an owner, alike in
    all servers, so that who reads Redis cannot tell who it is. ``largest``: bytes of an entry.
    Entries are good as long as the tokens are there with which they were stored: one of all, one of
    their owner. A clear takes the token away, so nothing brings back what was there before.
    Raises StoreError for a URL that is none, and where redis-py is missing.
    """

    def __init__(
        self,
        url: str,
        ttl: float | None,
        tag: Callable[[str], str],
        largest: int = LARGEST,
        now: Callable[[], float] = time.time,
    ):
        self._redis: Redis = connect(url)
        self._get = self._redis.register_script(GET)
        self._put = self._redis.register_script(PUT)
        self._ttl = DEFAULT_TTL if ttl is None else ttl
        self._tag = tag
        self._largest = largest
        self._now = now
        self._clock = time.monotonic
        self._owed = OwedClears()
        where = f"response cache {shown(url)}"
        self._outage = Outage(f"{where}: it cannot be reached", _PAUSE)
        self._refusals = Outage(f"{where}: it refuses a command", 0.0)
        self._counted: tuple[float, int, int] = (-math.inf, 0, 0)

    async def get(self, key: Key) -> Found:
        owner = self._tag(key.owner)
        if not await self._is_ready():
            return Found(None, None)
        keys = [_token(None), _token(owner), _entry(owner, key.digest)]
        try:
            fresh = secrets.token_bytes(_TOKEN)
            ticket, data = await self._get(keys, [fresh, math.ceil(_REQUEST * 1000)])
            self._outage.went_well()
            if ticket is None:
                self._refusals.failed("nothing can be written")
            entry = None if data is None else unpack(data[_TICKET:])
        except (*REDIS_ERRORS, PackingError) as error:
            self._failed(error)
            return Found(None, None)
        if entry is not None and entry.created + self._ttl <= self._now():
            entry = None
        return Found(entry, ticket)

    async def put(self, key: Key, entry: Entry, ticket: object) -> bool:
        left = math.ceil((entry.created + self._ttl - self._now()) * 1000)
        if not isinstance(ticket, bytes) or left <= 0 or entry.size + OVERHEAD > self._largest:
            return False
        owner = self._tag(key.owner)
        if not await self._is_ready():
            return False
        keys = [_token(None), _token(owner), _index(owner), _entry(owner, key.digest)]
        stored, live = ticket + pack(entry), math.ceil(max(self._ttl, _REQUEST) * 1000)
        values: list[bytes | int] = [ticket, stored, left, live, key.digest]
        try:
            kept = await self._put(keys, values)
        except REDIS_ERRORS as error:
            self._failed(error)
            return False
        self._outage.went_well()
        self._refusals.went_well()
        return bool(kept)

    async def clear(self, owner: str | None = None) -> int:
        """As the protocol says; while Redis is away it is owed, and nothing of theirs is found."""
        tag = None if owner is None else self._tag(owner)
        self._owed.add(tag)
        return await self._clear(tag)

    async def stats(self, owner: str | None = None) -> StoreStats:
        """Count by looking at each key; of all owners together, once a minute."""
        failures = self._outage.failures + self._refusals.failures
        entries = size = 0
        if await self._is_ready():
            try:
                entries, size = await self._count(None if owner is None else self._tag(owner))
            except REDIS_ERRORS as error:
                self._failed(error)
        return StoreStats(entries, size, None, failures=0 if owner is not None else failures)

    async def close(self) -> None:
        try:
            await self._redis.aclose()
        except REDIS_ERRORS as error:
            self._failed(error)

    async def _is_ready(self) -> bool:
        """Do what is owed; tell whether Redis may be used."""
        if not self._outage.may_try():
            return False
        for owner in self._owed.owners():
            await self._clear(owner)
        return not self._owed

    async def _clear(self, owner: str | None) -> int:
        """Take the token away first: from then on nothing that is there is found."""
        dropped = 0
        try:
            await self._redis.delete(_token(owner))
            self._owed.done(owner)
            async for entries in self._entries(owner):
                dropped += await self._redis.unlink(*entries)
            if owner is not None:
                await self._redis.unlink(_index(owner))
        except REDIS_ERRORS as error:
            self._owed.add(owner)
            self._failed(error)
        else:
            self._outage.went_well()
        self._counted = (-math.inf, 0, 0)
        return dropped

    async def _entries(self, owner: str | None) -> AsyncIterator[list[bytes]]:
        """Yield the keys of an owner's entries, or all, some at a time."""
        cursor = 0
        found: Any
        while True:
            if owner is None:
                cursor, found = await self._redis.scan(cursor, f"{_ENTRY}*", count=_AT_ONCE)
                keys: list[bytes] = found
            else:
                cursor, found = await self._redis.zscan(_index(owner), cursor, count=_AT_ONCE)
                keys = [_entry(owner, digest) for digest, _ in found]
            if keys:
                yield keys
            if not cursor:
                break

    async def _count(self, owner: str | None) -> tuple[int, int]:
        when, entries, size = self._counted
        if owner is None and self._clock() < when + _COUNTED_EVERY:
            return entries, size
        entries = size = 0
        async for keys in self._entries(owner):
            pipeline = self._redis.pipeline(transaction=False)
            for key in keys:
                pipeline.getrange(key, _TICKET, _TICKET + HEAD_SIZE - 1)
            heads = [head for head in await pipeline.execute() if head]
            entries += len(heads)
            size += sum(size_of(head) + OVERHEAD for head in heads)
        if owner is None:
            self._counted = self._clock(), entries, size
        return entries, size

    def _failed(self, error: Exception) -> None:
        (self._outage if is_away(error) else self._refusals).failed(error)


def _token(owner: str | None) -> bytes:
    return (f"{_PREFIX}all" if owner is None else f"{_PREFIX}owner:{owner}").encode()


def _index(owner: str) -> bytes:
    return f"{_PREFIX}index:{owner}".encode()


def _entry(owner: str, digest: bytes) -> bytes:
    return f"{_ENTRY}{owner}:".encode() + digest
