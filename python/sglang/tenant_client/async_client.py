"""The client for asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from types import TracebackType

import openai

from .async_sessions import AsyncSessions
from .async_transport import AsyncTransport
from .endpoint import Endpoint, Retries, Timeouts
from .options import Options, check_options
from .server_state import Capacity, Health, capacity, health, wait_ready
from .settings import settings_of
from .warming import Warmth, warm

_AT_ONCE = 8  # prefixes


class AsyncClient:
    """A client of one server, and of others where that cannot answer.

    ``api_key`` or ``user_id``: who asks. ``fallbacks``: asked in turn where the first is not
    reached or answers 503. ``admin_key``: for what only operators are told.
    Use it in an ``async with`` block.
    """

    def __init__(
        self,
        url: str | Endpoint,
        *,
        api_key: str | None = None,
        user_id: str | None = None,
        model: str | None = None,
        headers: Mapping[str, str] | None = None,
        fallbacks: Sequence[str | Endpoint] = (),
        admin_key: str | None = None,
        timeouts: Timeouts | None = None,
        retries: Retries | None = None,
    ) -> None:
        """Raise BadArgument."""
        identity = {"api_key": api_key, "user_id": user_id, "model": model, "headers": headers}
        settings = settings_of(
            url,
            fallbacks=fallbacks,
            admin_key=admin_key,
            timeouts=timeouts,
            retries=retries,
            **identity,
        )
        self.transport = AsyncTransport(settings)
        self.sessions = AsyncSessions(self.transport)

    async def __aenter__(self) -> AsyncClient:
        """Return the client."""
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close all connections."""
        await self.close()

    async def close(self) -> None:
        """Close all connections; sessions that were not saved are gone with the client."""
        await self.transport.close()

    @property
    def openai(self) -> openai.AsyncOpenAI:
        """The openai client of the first endpoint, for all that is no session. Retries nothing."""
        return self.transport.clients[0]

    async def warm(self, systems: Sequence[str], *, options: Options | None = None) -> list[Warmth]:
        """Have the server compute system prompts, several at once.

        ``options``: of the turns to come. Raises openai.OpenAIError where the server refuses.
        """
        chosen = check_options(options or {})
        free = asyncio.Semaphore(_AT_ONCE)

        async def one(system: str) -> Warmth:
            async with free:
                return await self.transport.run(warm(system, chosen))

        return await asyncio.gather(*map(one, systems))

    async def health(self) -> Health:
        """Ask the first endpoint whether it is up. Needs no key."""
        return await self.transport.run(health())

    async def wait_ready(self, seconds: float = 300.0) -> Health:
        """Wait until the first endpoint is up. Raises NotReady."""
        return await self.transport.run(wait_ready(seconds))

    async def capacity(self) -> Capacity:
        """Ask how much room the first endpoint has."""
        return await self.transport.run(capacity())
