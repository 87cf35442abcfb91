"""Answer health checks, of which each computes a token, no more often than is of use."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from fastapi.responses import Response

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

PATHS = ("/health", "/health_generate")
SECONDS = 2.0  # for which an answer is given again; a check waits one second for its token


class HealthChecks:
    """Passes one health check at a time on, and gives its answer to all that ask meanwhile.

    They need no key, as in upstream, so that load balancers can ask.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic):
        self._now = now
        self._checking = asyncio.Lock()
        self._status: dict[str, tuple[float, int]] = {}

    async def answer(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request for one of PATHS."""
        path = scope["path"]
        async with self._checking:
            at, status = self._status.get(path, (-SECONDS, 0))
            if self._now() - at >= SECONDS:
                status = await self._check(app, scope, receive)
                self._status[path] = (self._now(), status)
        await Response(status_code=status)(scope, receive, send)

    async def _check(self, app: ASGIApp, scope: Scope, receive: Receive) -> int:
        status = 500

        async def look(message: Message) -> None:
            nonlocal status
            status = message.get("status", status)

        await app(scope, receive, look)
        return status
