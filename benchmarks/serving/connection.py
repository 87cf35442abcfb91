"""The HTTP connections of a client to one server."""

from __future__ import annotations

from types import TracebackType

import aiohttp
from typing_extensions import Self

# SGLang closes what was idle for five seconds (SGLANG_TIMEOUT_KEEP_ALIVE). Who asks on such a
# connection before hearing of it gets no answer, and a POST is not sent again.
IDLE_SECONDS = 2.0


class Connection:
    """Any number of requests at once. To be used in an ``async with`` statement."""

    def __init__(self, url: str, timeout: aiohttp.ClientTimeout) -> None:
        self.url = url
        self._timeout = timeout
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=IDLE_SECONDS)
        self._session = aiohttp.ClientSession(connector=connector, timeout=self._timeout)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.http.close()

    @property
    def http(self) -> aiohttp.ClientSession:
        assert self._session is not None, "connected only inside the with statement"
        return self._session
