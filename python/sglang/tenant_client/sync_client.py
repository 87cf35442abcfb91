"""The client for threads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType

import openai

from .endpoint import Endpoint, Retries, Timeouts
from .options import Options, check_options
from .server_state import Capacity, Health, capacity, health, wait_ready
from .settings import settings_of
from .sync_sessions import Sessions
from .sync_transport import Transport
from .warming import Warmth, warm

_AT_ONCE = 8  # prefixes


class Client:
    """A client of one server, and of others where that cannot answer.

    ``api_key`` or ``user_id``: who asks. ``fallbacks``: asked in turn where the first is not
    reached or answers 503. ``admin_key``: for what only operators are told.
    Use it in a ``with`` block.
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
        self.transport = Transport(settings)
        self.sessions = Sessions(self.transport)

    def __enter__(self) -> Client:
        """Return the client."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close all connections."""
        self.close()

    def close(self) -> None:
        """Close all connections; sessions that were not saved are gone with the client."""
        self.transport.close()

    @property
    def openai(self) -> openai.OpenAI:
        """The openai client of the first endpoint, for all that is no session. Retries nothing."""
        return self.transport.clients[0]

    def warm(self, systems: Sequence[str], *, options: Options | None = None) -> list[Warmth]:
        """Have the server compute system prompts, several at once.

        ``options``: of the turns to come. Raises openai.OpenAIError where the server refuses.
        """
        chosen = check_options(options or {})
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            return list(pool.map(lambda system: self.transport.run(warm(system, chosen)), systems))

    def health(self) -> Health:
        """Ask the first endpoint whether it is up. Needs no key."""
        return self.transport.run(health())

    def wait_ready(self, seconds: float = 300.0) -> Health:
        """Wait until the first endpoint is up. Raises NotReady."""
        return self.transport.run(wait_ready(seconds))

    def capacity(self) -> Capacity:
        """Ask how much room the first endpoint has."""
        return self.transport.run(capacity())
