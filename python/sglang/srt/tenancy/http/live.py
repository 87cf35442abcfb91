"""``GET /tenant/live``: what the live page shows, as lines of JSON, for as long as somebody reads.

Not server-sent events: a browser cannot send them the key.
"""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING, Any

from fastapi import Request
from fastapi.responses import StreamingResponse

from sglang.srt.tenancy.control.client import ControlClient, control_client_of
from sglang.srt.tenancy.control.messages import refused
from sglang.srt.tenancy.detect import service as detector
from sglang.srt.tenancy.errors import RequestError
from sglang.srt.tenancy.http import refusal
from sglang.srt.tenancy.http.live_sampler import LONGEST, SHORTEST, Sampler
from sglang.srt.tenancy.http.middleware import TenantMiddleware

if TYPE_CHECKING:
    from fastapi import FastAPI
    from starlette.types import Receive, Scope, Send

# A connection that died without a word is noticed when it takes no more bytes, or when its stream
# ends: the page then asks anew.
_STREAM_SECONDS = 120.0
_SEND_SECONDS = 15.0


async def live(request: Request) -> LiveResponse:
    """Stream what happens. ``every``: seconds between two frames."""
    return LiveResponse(sampler_of(request.app), _every(request))


def sampler_of(app: FastAPI) -> Sampler:
    """Return this process's sampler, made on first use."""
    if not hasattr(app.state, "tenant_live"):
        client = control_client_of(app)
        app.state.tenant_live = Sampler(client.ask, lambda: _local(client))
    sampler: Sampler = app.state.tenant_live
    return sampler


def _every(request: Request) -> float:
    text = request.query_params.get("every", "1")
    try:
        seconds = float(text) if len(text) <= 16 else math.nan
    except ValueError:
        seconds = math.nan
    if SHORTEST <= seconds <= LONGEST:
        return seconds
    shown = text if len(text) <= 16 else f"{text[:16]}…"
    raise refused(
        400, "every", f"{shown!r} is out of range; give {SHORTEST} to {LONGEST:.0f} seconds"
    )


def _local(client: ControlClient) -> dict[str, Any]:
    """Count what this HTTP process knows: limits, refusals, the detector."""
    limiter = TenantMiddleware.limiter
    scans = detector.stats()
    return {
        "mode": client.mode,
        "limiter": {
            "running": 0 if limiter is None else limiter.running,
            "queued": 0 if limiter is None else limiter.waiting,
            "admitted": 0 if limiter is None else limiter.admitted,
            "refused": dict(refusal.limits),
        },
        "detector": scans and {name: scans[name] for name in scans if name != "pid"},
    }


class LiveResponse(StreamingResponse):
    """Frames of one viewer, until it goes, reads no more, or has had its time."""

    def __init__(
        self,
        sampler: Sampler,
        every: float,
        stream_seconds: float = _STREAM_SECONDS,
        send_seconds: float = _SEND_SECONDS,
    ):
        headers = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
        super().__init__(iter(()), media_type="application/x-ndjson", headers=headers)
        self._sampler = sampler
        self._every = every
        self._stream_seconds = stream_seconds
        self._send_seconds = send_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send a 429 instead where too many watch already."""
        try:
            with self._sampler.viewing(self._every) as viewer:
                self.body_iterator = self._sampler.lines(viewer)
                await super().__call__(scope, receive, send)
        except RequestError as error:
            await refusal.refuse(error, scope, receive, send)

    async def stream_response(self, send: Send) -> None:
        loop = asyncio.get_running_loop()
        start = {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
        ends = loop.time() + self._stream_seconds
        try:
            await self._send(send, start)
            async for line in self.body_iterator:
                await self._send(send, {"type": "http.response.body", "body": line, **_MORE})
                if loop.time() >= ends:
                    break
            last = {"type": "http.response.body", "body": b'{"type":"end"}\n', "more_body": False}
            await self._send(send, last)
        except asyncio.TimeoutError:
            return  # the server closes the connection, as its answer has no end

    async def _send(self, send: Send, message: Any) -> None:
        await asyncio.wait_for(send(message), self._send_seconds)


_MORE = {"more_body": True}
