"""What keeps entries: in memory, in a file, in Redis."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from sglang.srt.tenancy.response_cache.entry import Entry, Key

# Bytes that an entry takes beside its bodies, in every store's account.
OVERHEAD = 256


class StoreError(ValueError):
    """A store that no server may start with: which, why, and the way out."""


@dataclass(frozen=True, slots=True)
class Found:
    """What a store holds of a key, and since when it may be added to.

    ``ticket``: to be given back with what is computed meanwhile; not good any more once the owner's
    entries, or all, were cleared.
    """

    entry: Entry | None
    ticket: object


@dataclass(frozen=True, slots=True)
class StoreStats:
    """``size``: bytes held, OVERHEAD included; ``room``: that may be held; None: the store's own
    configuration says. ``evicted``: entries dropped for room; ``expired``: for their age.
    ``failures``: of the store itself, which was gone on without."""

    entries: int
    size: int
    room: int | None
    evicted: int = 0
    expired: int = 0
    failures: int = 0


class ResponseStore(Protocol):
    """Keeps entries of many owners, the least recently used of whom holds most leaving first.

    Never raises for what is wrong with the store: then it holds nothing.
    """

    async def get(self, key: Key) -> Found:
        """Look a key up; that counts as use."""
        ...

    async def put(self, key: Key, entry: Entry, ticket: object) -> bool:
        """Keep an entry in place of the key's last one. False: it does not fit, or the ticket, of
        an earlier ``get``, is not good any more."""
        ...

    async def clear(self, owner: str | None = None) -> int:
        """Drop one owner's entries, or all; those that are put with an older ticket, too.

        Returns how many there were.
        """
        ...

    async def stats(self, owner: str | None = None) -> StoreStats:
        """Count what is held, of one owner or of all."""
        ...

    async def close(self) -> None:
        """Write what is not written yet."""
        ...
