"""Hold a response back until the engine has taken the request, or has refused it.

A stream's status is sent before its handler asks the engine for anything: without this, what the
engine's intake refuses would be a 200 with an error in it.
"""

from __future__ import annotations

import contextvars
from typing import TYPE_CHECKING

from sglang.srt.tenancy.errors import RequestError, bad_field
from sglang.srt.tenancy.http.log import logger, where
from sglang.srt.tenancy.http.refusal import refuse

if TYPE_CHECKING:
    from starlette.types import Message, Receive, Scope, Send

_MOST_HELD = 1 << 20  # bytes; whoever sends so much before it asks the engine answers by itself

_current: contextvars.ContextVar[HeldResponse | None] = contextvars.ContextVar(
    "response", default=None
)


class HeldResponse:
    """The response to one HTTP request. Its handler is given ``send``."""

    def __init__(self, scope: Scope, receive: Receive, send: Send):
        self._scope = scope
        self._receive = receive
        self._send = send
        self._held: list[Message] = []
        self._size = 0
        self._begun = False
        self._taken = False
        self._refusal: RequestError | None = None
        self._over = False
        _current.set(self)

    async def send(self, message: Message) -> None:
        """Pass on what the handler sends; of a refused request, the refusal instead."""
        if self._over:
            return
        if self._begun:
            await self._send(message)
            return
        if message.get("status") == 500 and self._refusal is None:
            self._refusal = self._of_failure()
        if self._refusal is not None:
            await self.end()
            return
        self._held.append(message)
        self._size += len(message.get("body", b""))
        last = message["type"] == "http.response.body" and not message.get("more_body", False)
        if self._taken or last or self._size > _MOST_HELD:
            await self._begin()

    async def release(self) -> None:
        """Send what is held: the engine has taken the request, and answers."""
        self._taken = True
        if self._held and not self._begun and self._refusal is None:
            await self._begin()

    def refuse(self, error: RequestError) -> None:
        """Answer with this error, whatever the handler makes of it; not once the answer began."""
        if not self._begun and self._refusal is None:
            self._refusal = error

    async def fail(self, error: Exception) -> None:
        """Answer for a handler that raised. Raises it again where the answer has begun."""
        if self._begun:
            raise error
        logger.warning("A request failed: %s", where(error))
        self.refuse(error if isinstance(error, RequestError) else self._of_failure())
        await self.end()

    async def end(self) -> None:
        """Send what is due when the handler is through."""
        if self._over or self._begun:
            return
        self._over = self._refusal is not None
        if self._refusal is not None:
            await refuse(self._refusal, self._scope, self._receive, self._send)
        elif self._held:
            await self._begin()

    async def _begin(self) -> None:
        self._begun = True
        held, self._held = self._held, []
        for message in held:
            await self._send(message)

    def _of_failure(self) -> RequestError:
        """Say no more of a failure than whose it is.

        Handlers answer 500, with what Python says, where they stumble over what a request holds.
        What fails before the engine has the request is the request's.
        """
        if self._taken:
            return RequestError(500, "request", "request: the server failed; its log says why")
        return bad_field("request", "it cannot be read as it is; check the types of its fields")


def current_response() -> HeldResponse | None:
    """Return the response of the HTTP request that this runs for."""
    return _current.get()
