"""Admit a request under its users' limits, and count it until its last byte is sent."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import orjson

from sglang.srt.tenancy.http.rate_limiter import Permit, RateLimiter

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send


class ClientGone(Exception):
    """The client closed the connection while its request waited to be admitted."""


async def wait_for_permit(entering: asyncio.Future[Permit], connection: Receive) -> None:
    """Wait for the limiter, or until the client is gone. Raises ClientGone."""
    gone = asyncio.ensure_future(connection())
    try:
        either: set[asyncio.Future[Any]] = {entering, gone}
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if not entering.done():
            raise ClientGone
    finally:
        gone.cancel()
        if not entering.done():
            entering.cancel()
            await asyncio.wait({entering})


class Admission:
    """Count one admitted request until its last byte is sent, or it broke off."""

    def __init__(self, limiter: RateLimiter, permit: Permit, *, background: bool):
        self.limiter = limiter
        self.permit = permit
        self.background = background
        self.status = 0
        self.complete = False
        self.reply = b""  # kept only of background responses: it names the task

    async def serve(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        async def watched(message: Message) -> None:
            await send(message)
            if message["type"] == "http.response.start":
                self.status = message["status"]
            elif message["type"] == "http.response.body":
                self._sent(message)

        try:
            await app(scope, receive, watched)
        finally:
            if not self.complete:
                self.limiter.leave(self.permit)

    def _sent(self, message: Message) -> None:
        if self.background:
            self.reply += message.get("body", b"")
        if message.get("more_body", False):
            return
        self.complete = True
        task = self._still_running() if self.background and self.status < 400 else None
        if task is None:
            self.limiter.leave(self.permit)
        else:
            task.add_done_callback(lambda _: self.limiter.leave(self.permit))

    def _still_running(self) -> asyncio.Task[Any] | None:
        """Return the task that upstream answers a background response in."""
        try:
            name = f"create_{orjson.loads(self.reply)['id']}"
        except (orjson.JSONDecodeError, KeyError, TypeError):
            return None
        return next((task for task in asyncio.all_tasks() if task.get_name() == name), None)
