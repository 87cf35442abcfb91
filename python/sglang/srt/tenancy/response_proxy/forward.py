"""Forward a request to the server behind the proxy, and its answer back, as it comes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import httpx

from sglang.srt.tenancy.errors import error_response

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

Headers = list[tuple[bytes, bytes]]

# RFC 9110, 7.6.1: of one connection, not of the request; and what httpx sets by itself. What is
# compressed could not be kept: nothing is asked for in another encoding.
_OF_CONNECTION = {
    *(b"connection", b"keep-alive", b"proxy-connection", b"te", b"trailer", b"upgrade"),
    *(b"transfer-encoding", b"host", b"content-length", b"accept-encoding", b"expect"),
}
_FROM_SERVER = _OF_CONNECTION - {b"content-length"}
_CONNECT = 10.0  # seconds; an answer takes as long as it takes


class Forwarder:
    """An ASGI app that is another server. ``url``: of its root; ``connections``: at a time."""

    def __init__(self, url: str, connections: int = 1000):
        self.url = url.rstrip("/")
        self._client = httpx.AsyncClient(
            timeout=httpx.Timeout(None, connect=_CONNECT),
            limits=httpx.Limits(max_connections=connections, max_keepalive_connections=100),
            headers={"Accept-Encoding": "identity"},
            trust_env=False,
        )

    async def close(self) -> None:
        await self._client.aclose()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = _Body(receive)
        path, query = scope["raw_path"].decode("latin-1"), scope["query_string"].decode("latin-1")
        request = self._client.build_request(
            scope["method"],
            f"{self.url}{path}" + (f"?{query}" if query else ""),
            headers=_kept(scope["headers"], _OF_CONNECTION),
            content=await body.content(scope["headers"]),
        )
        sending = asyncio.ensure_future(self._send(request, send))
        leaving = asyncio.ensure_future(body.gone())
        try:
            await asyncio.wait({sending, leaving}, return_when=asyncio.FIRST_COMPLETED)
            if sending.done():
                await sending
        finally:
            sending.cancel()
            leaving.cancel()
            await asyncio.gather(sending, leaving, return_exceptions=True)

    async def _send(self, request: httpx.Request, send: Send) -> None:
        try:
            response = await self._client.send(request, stream=True)
        except httpx.TransportError as error:
            await self._unreachable(error, request, send)
            return
        try:
            headers = _kept(response.headers.raw, _FROM_SERVER)
            start = {"type": "http.response.start", "status": response.status_code}
            await send({**start, "headers": headers})
            async for part in response.aiter_raw():
                await send({"type": "http.response.body", "body": part, "more_body": True})
            await send({"type": "http.response.body", "body": b""})
        finally:
            await response.aclose()

    async def _unreachable(self, error: Exception, request: httpx.Request, send: Send) -> None:
        fault = f"upstream: {self.url} does not answer ({type(error).__name__}); is it running?"
        response = error_response(502, fault, "upstream", path=request.url.path)
        await response({"type": "http"}, _nothing, send)


class _Body:
    """A request's body, read whole or as it comes, and the client's leaving after it."""

    def __init__(self, receive: Receive):
        self._receive = receive

    async def content(self, headers: Headers) -> bytes | AsyncIterator[bytes] | None:
        named = dict(headers)
        if named.get(b"content-length", b"0") == b"0" and b"transfer-encoding" not in named:
            return None
        parts, more = [], True
        while more:
            message = await self._receive()
            parts.append(message.get("body", b""))
            more = message.get("more_body", False)
        return b"".join(parts)

    async def gone(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass


def _kept(headers: Headers, left_out: set[bytes]) -> Headers:
    named = {name.lower(): value for name, value in headers}
    also = {word.strip().lower() for word in named.get(b"connection", b"").split(b",")}
    return [(name, value) for name, value in headers if name.lower() not in left_out | also]


async def _nothing() -> dict[str, str]:
    return {"type": "http.disconnect"}
