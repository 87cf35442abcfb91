"""Tell a client an answer in the form that was asked for, and where it comes from."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from sglang.srt.tenancy.response_cache.cacheable_request import CacheableRequest
from sglang.srt.tenancy.response_cache.computation import Computation
from sglang.srt.tenancy.response_cache.endpoints.endpoint import Split

if TYPE_CHECKING:
    from starlette.types import Message, Send

HEADER = b"x-cache"
HIT, MISS, BYPASS = b"HIT", b"MISS", b"BYPASS"

_JSON, _STREAM = b"application/json", b"text/event-stream; charset=utf-8"
_AT_ONCE = 64 << 10  # bytes of a replayed stream that are sent together
# Headers that belong to the form of an answer, not to the answer.
_OF_FORM = (b"content-length", b"content-type", b"transfer-encoding")


class ResponseWriter:
    """The answer to one request, sent through ``send``."""

    def __init__(self, asked: CacheableRequest, split: Split, send: Send):
        self._asked = asked
        self._split = split
        self._send = send

    async def whole(self, answer: bytes, said: bytes, age: int) -> None:
        """Send a final object, or the stream that it would have been. ``age``: seconds."""
        asked = self._asked
        if asked.rid is not None:
            answer = asked.endpoint.named(answer, asked.rid)
        aged = [(b"age", str(age).encode())] if said == HIT else []
        if not asked.streamed:
            length = (b"content-length", str(len(answer)).encode())
            await self._start(200, [(b"content-type", _JSON), length, *aged], said)
            await self._body(answer)
            return
        await self._start(200, [(b"content-type", _STREAM), *aged], said)
        await self._events(asked.endpoint.replayed(answer, asked.body, self._split))
        await self._body(b"")

    async def live(self, computation: Computation, said: bytes) -> None:
        """Send a stream as it comes. Raises what its computation raised."""
        await self._start(computation.status, computation.headers, said)
        async for event in computation.stream():
            shown = self._asked.endpoint.shown(event, self._asked.body)
            if shown is not None:
                await self._body(shown, more=True)
        await self._body(b"")

    async def as_it_is(self, computation: Computation, said: bytes) -> None:
        """Send what is no answer to keep (an error) as it came."""
        await self._start(computation.status, computation.headers, said)
        await self._body(bytes(computation.raw))

    async def _events(self, events: Iterable[bytes]) -> None:
        together = bytearray()
        for event in events:
            together += event
            if len(together) >= _AT_ONCE:
                await self._body(bytes(together), more=True)
                together.clear()
        await self._body(bytes(together), more=True)

    async def _start(self, status: int, headers: list[tuple[bytes, bytes]], said: bytes) -> None:
        named = [*headers, (HEADER, said)]
        await self._send({"type": "http.response.start", "status": status, "headers": named})

    async def _body(self, body: bytes, *, more: bool = False) -> None:
        await self._send({"type": "http.response.body", "body": body, "more_body": more})


def saying_bypass(send: Send) -> Send:
    """Return a send that says of an answer that the cache had nothing to do with it."""

    async def saying(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", ()), (HEADER, BYPASS)]}
        await send(message)

    return saying
