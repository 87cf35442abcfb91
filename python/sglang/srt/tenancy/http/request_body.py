"""Read a request's body, no more of it than is allowed, and no longer."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson
from starlette.datastructures import Headers

from sglang.srt.tenancy.errors import RequestError, bad_field
from sglang.srt.tenancy.http.held_response import current_response

if TYPE_CHECKING:
    from starlette.types import Message, Receive

    from sglang.srt.tenancy.flags import TenantOptions


# Bytes of the JSON body of the request that this runs for.
body_size: contextvars.ContextVar[int] = contextvars.ContextVar("body_size", default=0)


class ClientGone(Exception):
    """The client closed the connection before its request was read."""


@dataclass(frozen=True, slots=True)
class BodyBounds:
    """``size``: bytes. ``seconds``: until all of it must be there. ``depth``: of JSON."""

    size: int = 32 << 20
    seconds: float = 60.0
    depth: int = 64

    @classmethod
    def of(cls, options: TenantOptions) -> BodyBounds:
        return cls(
            options.tenant_max_body_bytes,
            options.tenant_body_timeout,
            options.tenant_max_json_depth,
        )


async def read_body(
    headers: Sequence[tuple[bytes, bytes]], receive: Receive, bounds: BodyBounds
) -> tuple[dict[str, Any], Receive]:
    """Read the JSON body; return it, and a receive that gives the body once more.

    Anything but a JSON object claims nothing, which is the safe side; whether it is an
    error is the handler's to say. Raises RequestError 413, 408 or 400, and ClientGone.
    """
    named = Headers(raw=list(headers))
    announced = named.get("content-length", "0")
    if announced.isascii() and announced.isdigit() and int(announced[:20]) > bounds.size:
        raise _too_large(bounds)
    if "json" not in named.get("content-type", "json").lower():
        return {}, _Counted(receive, bounds).receive
    raw = await _all(receive, bounds)
    body_size.set(len(raw))
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError:
        body = {}
    if raw.count(b"[") + raw.count(b"{") > bounds.depth and _depth(body) > bounds.depth:
        raise bad_field("body", f"nested more than {bounds.depth} deep")
    pending: list[Message] = [{"type": "http.request", "body": raw, "more_body": False}]

    async def replay() -> Message:
        return pending.pop() if pending else await receive()

    return body if isinstance(body, dict) else {}, replay


async def _all(receive: Receive, bounds: BodyBounds) -> bytes:
    counted = _Counted(receive, bounds)
    chunks: list[bytes] = []
    more = True
    while more:
        message = await counted.receive()
        if message["type"] != "http.request":
            raise ClientGone
        chunks.append(message.get("body", b""))
        more = message.get("more_body", False)
    return b"".join(chunks)


class _Counted:
    """Counts the bytes of a body, and the time, as they come.

    ``receive`` raises RequestError 413 or 408; where a handler reads, which may make another error
    of it, that is the answer still.
    """

    def __init__(self, receive: Receive, bounds: BodyBounds):
        self._receive = receive
        self._bounds = bounds
        self._size = 0
        self._deadline: float | None = asyncio.get_running_loop().time() + bounds.seconds

    async def receive(self) -> Message:
        if self._deadline is None:
            return await self._receive()
        left = self._deadline - asyncio.get_running_loop().time()
        try:
            message = await asyncio.wait_for(self._receive(), left)
        except asyncio.TimeoutError:
            fault = f"body: not complete after {self._bounds.seconds:g} s; send it faster"
            raise _answered(RequestError(408, "body", fault)) from None
        if not message.get("more_body", False):
            self._deadline = None  # what comes now is that the client has gone
        self._size += len(message.get("body", b""))
        if self._size > self._bounds.size:
            raise _answered(_too_large(self._bounds))
        return message


def _answered(error: RequestError) -> RequestError:
    response = current_response()
    if response is not None:
        response.refuse(error)
    return error


def _too_large(bounds: BodyBounds) -> RequestError:
    return RequestError(413, "body", f"body: more than {bounds.size} bytes; send a smaller one")


def _depth(value: Any) -> int:
    """Return how deep lists and objects are in each other."""
    depth, level = 0, [value]
    while level := [part for part in level if isinstance(part, (list, dict))]:
        depth += 1
        level = [
            child for part in level for child in (part if isinstance(part, list) else part.values())
        ]
    return depth
