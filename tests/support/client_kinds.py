"""Both clients driven alike, so that one test says what both do."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol, TypeVar

from sglang.tenant_client import Answer, AsyncClient, Client, SessionState, Warmth
from sglang.tenant_client.server_state import Capacity, Health

T = TypeVar("T")
KINDS = ("sync", "async")


class Driven(Protocol):
    """What a test does with a client."""

    def create(self, name: str, system: str | None = None, **how: Any) -> Warmth | None:
        """Begin a session; what is known of its system prompt."""

    def ask(self, name: str, text: str, **options: Any) -> Answer:
        """One turn, whole."""

    def pieces(self, name: str, text: str, most: int | None = None, **options: Any) -> list[str]:
        """One turn by its pieces; ``most``: leave after so many."""

    def ask_side_by_side(self, turns: Sequence[tuple[str, str]]) -> list[Answer]:
        """Turns of sessions, by name and text, begun at the same time."""

    def warm(self, systems: Sequence[str]) -> list[Warmth]:
        """Warm prefixes."""

    def wait_ready(self, seconds: float) -> Health:
        """Wait for the server."""

    def capacity(self) -> Capacity:
        """How much room there is."""

    def state(self, name: str) -> SessionState:
        """A session as it is."""

    def close(self) -> None:
        """End."""

    @property
    def sessions(self) -> Any:
        """What of the sessions both have alike: fork, list, delete, cleanup, save, load."""


def driven(kind: str, url: Any, **how: Any) -> Driven:
    """A client of this kind."""
    return SyncDriven(url, **how) if kind == "sync" else AsyncDriven(url, **how)


class SyncDriven:
    """``Client``, in threads."""

    def __init__(self, url: Any, **how: Any) -> None:
        self.client = Client(url, **how)
        self.sessions = self.client.sessions
        self.warm = self.client.warm
        self.wait_ready = self.client.wait_ready
        self.capacity = self.client.capacity
        self.close = self.client.close

    def create(self, name: str, system: str | None = None, **how: Any) -> Warmth | None:
        return self.sessions.create(name, system, **how).warmth

    def ask(self, name: str, text: str, **options: Any) -> Answer:
        return self.sessions.get(name).ask(text, **options)

    def pieces(self, name: str, text: str, most: int | None = None, **options: Any) -> list[str]:
        found: list[str] = []
        with self.sessions.get(name).stream(text, **options) as stream:
            for piece in stream:
                found.append(piece)
                if len(found) == most:
                    break
        return found

    def ask_side_by_side(self, turns: Sequence[tuple[str, str]]) -> list[Answer]:
        with ThreadPoolExecutor(len(turns)) as pool:
            return list(pool.map(lambda turn: self.ask(*turn), turns))

    def state(self, name: str) -> SessionState:
        return self.sessions.get(name).state


class AsyncDriven:
    """``AsyncClient``, in a loop of its own."""

    def __init__(self, url: Any, **how: Any) -> None:
        self._loop = asyncio.new_event_loop()
        self.client = AsyncClient(url, **how)
        self.sessions = self.client.sessions

    def _run(self, awaited: Awaitable[T]) -> T:
        async def whole() -> T:
            return await awaited

        return self._loop.run_until_complete(whole())

    def create(self, name: str, system: str | None = None, **how: Any) -> Warmth | None:
        return self._run(self.sessions.create(name, system, **how)).warmth

    def ask(self, name: str, text: str, **options: Any) -> Answer:
        return self._run(self.sessions.get(name).ask(text, **options))

    def pieces(self, name: str, text: str, most: int | None = None, **options: Any) -> list[str]:
        async def some() -> list[str]:
            found: list[str] = []
            async with self.sessions.get(name).stream(text, **options) as stream:
                async for piece in stream:
                    found.append(piece)
                    if len(found) == most:
                        break
            return found

        return self._run(some())

    def ask_side_by_side(self, turns: Sequence[tuple[str, str]]) -> list[Answer]:
        async def all_of_them() -> list[Answer]:
            asked = (self.sessions.get(name).ask(text) for name, text in turns)
            return await asyncio.gather(*asked)

        return self._run(all_of_them())

    def warm(self, systems: Sequence[str]) -> list[Warmth]:
        return self._run(self.client.warm(systems))

    def wait_ready(self, seconds: float) -> Health:
        return self._run(self.client.wait_ready(seconds))

    def capacity(self) -> Capacity:
        return self._run(self.client.capacity())

    def state(self, name: str) -> SessionState:
        return self.sessions.get(name).state

    def close(self) -> None:
        self._run(self.client.close())
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.close()
