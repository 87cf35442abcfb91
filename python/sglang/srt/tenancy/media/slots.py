"""Bound how many media are being fetched: for each user, and for all together."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

MOST_OF_USER = 8
MOST_IN_ALL = 32


@dataclass(slots=True)
class _OfUser:
    slots: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(MOST_OF_USER))
    holders: int = 0


class FetchSlots:
    """The slots of one HTTP process. Who finds none waits, first come, first served."""

    def __init__(self) -> None:
        self._in_all = asyncio.Semaphore(MOST_IN_ALL)
        self._of_users: dict[str, _OfUser] = {}

    @contextlib.asynccontextmanager
    async def one_of(self, user: str) -> AsyncIterator[None]:
        """Hold one slot of a user's."""
        own = self._of_users.setdefault(user, _OfUser())
        own.holders += 1
        try:
            # The user's first: who waits for one of those takes none from all.
            async with own.slots, self._in_all:
                yield
        finally:
            own.holders -= 1
            if not own.holders:
                del self._of_users[user]
