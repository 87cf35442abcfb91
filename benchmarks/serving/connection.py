"""The HTTP connections of a client to one server."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Mapping
from types import TracebackType
from typing import Any

import aiohttp
from typing_extensions import Self

# SGLang closes what was idle for five seconds (SGLANG_TIMEOUT_KEEP_ALIVE). Who asks on such a
# connection before hearing of it gets no answer, and a POST is not sent again.
IDLE_SECONDS = 2.0
FLUSH_SECONDS = 60.0


class Refused(RuntimeError):
    """The server answered with an error; ``status`` is its HTTP code."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(f"the server answered {status}: {detail[:300]}")
        self.status = status
        self.detail = detail[:300]


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

    async def flush_cache(self, headers: Mapping[str, str]) -> int:
        """Empty the cache on all tiers, once the server is idle. Returns the last HTTP status."""
        deadline = time.monotonic() + FLUSH_SECONDS
        while True:
            async with self.http.post(f"{self.url}/flush_cache", headers=headers) as answer:
                # 400 while requests that have ended are being cleaned up after.
                if answer.status != 400 or time.monotonic() > deadline:
                    return answer.status
            await asyncio.sleep(0.05)


async def events(answer: aiohttp.ClientResponse) -> AsyncIterator[dict[str, Any]]:
    """The JSON events of a stream, as they come. Raises Refused where it is no 200."""
    if answer.status != 200:
        raise Refused(answer.status, await answer.text())
    async for line in answer.content:
        if line.startswith(b"data: {"):
            yield json.loads(line[6:])
