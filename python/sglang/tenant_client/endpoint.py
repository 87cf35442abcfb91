"""Where a server is, and as whom it is asked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import httpx

from .errors import BadArgument

# The openai client insists on a key, and would else send the one of its own environment variable.
NO_KEY = "none"


@dataclass(frozen=True)
class Endpoint:
    """One server.

    ``url``: with or without ``/v1``. ``api_key``: of the user, where users hold keys.
    ``user_id``: sent in the body, where they do not. ``model``: the server's first, if left out.
    ``headers``: sent with every request.
    """

    url: str
    api_key: str | None = field(default=None, repr=False)
    user_id: str | None = None
    model: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        """Raise BadArgument where the address is none."""
        root = self.url.strip().rstrip("/").removesuffix("/v1").rstrip("/")
        parts = urlsplit(root)
        if parts.scheme not in ("http", "https") or not parts.netloc:
            raise BadArgument("url", f"{self.url!r} is no address; give http://HOST:PORT")
        object.__setattr__(self, "url", root)

    def identity(self) -> dict[str, str]:
        """Return what a body says of the user."""
        return {} if self.user_id is None else {"user_id": self.user_id}


@dataclass(frozen=True)
class Timeouts:
    """Seconds; None: for ever.

    ``read``: of silence, before the first piece of an answer and between two. An answer that flows
    is never cut.
    """

    connect: float | None = 5.0
    read: float | None = 300.0

    def httpx(self) -> httpx.Timeout:
        """Return the same for httpx: no limit on a whole request, nor on the wait for a connection
        of the pool."""
        return httpx.Timeout(None, connect=self.connect, read=self.read, write=self.read)


@dataclass(frozen=True)
class Retries:
    """How often a request is sent anew that was refused for now, or did not reach a server.

    ``attempts``: in all; 1 retries nothing. ``seconds``: how long at most after the first.
    ``longest_wait``: a server that asks for more (``Retry-After``) is not waited for.
    """

    attempts: int = 4
    seconds: float = 60.0
    longest_wait: float = 30.0

    def __post_init__(self) -> None:
        """Raise BadArgument where nothing would be sent at all."""
        if self.attempts < 1:
            raise BadArgument("attempts", f"{self.attempts} is less than one; 1 retries nothing")
