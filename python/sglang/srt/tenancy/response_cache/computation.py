"""Ask the engine once for several clients that ask the same, and let each see the answer grow."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING

import orjson

from sglang.srt.tenancy.response_cache.endpoints.endpoint import Body, Endpoint
from sglang.srt.tenancy.response_cache.endpoints.sse import Splitter

if TYPE_CHECKING:
    from starlette.types import Message, Receive, Scope, Send

    App = Callable[[Scope, Receive, Send], Awaitable[None]]

logger = logging.getLogger(__name__)

_current: contextvars.ContextVar[Computation | None] = contextvars.ContextVar(
    "computation", default=None
)

_STREAM = b"text/event-stream"
_OK = 200


class Computation:
    """One request to the engine, going on as long as somebody waits for it.

    ``status`` is 0 until the answer has begun.
    ``kept``: events of a stream, each with its blank line, without those that others repeat;
    ``raw``: what has come of any other answer. ``aborted``: it does not say all, whatever it says.
    ``seconds``: that it took.
    """

    def __init__(self, endpoint: Endpoint, body: Body):
        self.aborted = False
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self.kept: list[bytes] = []
        self.raw = bytearray()
        self._endpoint = endpoint
        self._splitter = Splitter()
        self._pending: list[list[bytes]] = []
        self.over = False
        self.fault: BaseException | None = None
        self.seconds = 0.0
        self._body = orjson.dumps(body)
        self._watching = 0
        self._abandoned = asyncio.Event()
        self._grown = asyncio.Event()
        self._began = 0.0
        self._task: asyncio.Task[None] | None = None

    def start(self, app: App, scope: Scope) -> None:
        """Send the request to ``app``, in the context of whoever asks first."""
        self._began = time.monotonic()
        self._task = asyncio.get_running_loop().create_task(self._run(app, scope))

    @property
    def is_stream(self) -> bool:
        """Whether what has begun is a stream: errors are none."""
        kind = dict(self.headers).get(b"content-type", b"")
        return self.status == _OK and kind.startswith(_STREAM)

    @property
    def abandoned(self) -> bool:
        """Whether all who waited have left: nobody may join what may be aborted."""
        return self._abandoned.is_set() and not self.over

    def watch(self) -> None:
        """Count one more client that waits."""
        self._watching += 1

    def leave(self) -> None:
        """Count one client less; where nobody waits any more, the engine is told."""
        self._watching -= 1
        if not self._watching:
            self._abandoned.set()

    async def begun(self) -> None:
        """Wait until it is known how the answer begins."""
        await self._until(lambda: bool(self.status) or self.over)

    async def ended(self) -> None:
        """Wait for the whole answer. Raises what the app raised."""
        await self._until(lambda: self.over)
        if self.fault is not None:
            raise self.fault

    async def stream(self) -> AsyncIterator[bytes]:
        """Yield what there was of a stream, and what comes. Raises what the app raised.

        Whoever is slow to take events is spared those that later ones repeat.
        """
        pending = list(self.kept)
        self._pending.append(pending)
        try:
            while pending or not self.over:
                if not pending:
                    await self._grown.wait()
                taken = pending[:]
                pending.clear()
                for event in taken:
                    yield event
        finally:
            self._pending = [others for others in self._pending if others is not pending]
        if self.fault is not None:
            raise self.fault

    def _add(self, event: bytes) -> None:
        for events in (self.kept, *self._pending):
            self._endpoint.keep(events, event)

    async def _until(self, reached: Callable[[], bool]) -> None:
        while not reached():
            await self._grown.wait()

    def _tell(self) -> None:
        """Wake whoever waits for something to change."""
        grown, self._grown = self._grown, asyncio.Event()
        grown.set()

    async def _run(self, app: App, scope: Scope) -> None:
        _current.set(self)
        try:
            await app(_with_length(scope, len(self._body)), self._receive(), self._take)
        except Exception as error:  # noqa: BLE001 - whoever waits is to raise it
            if self.over:  # nobody waits for what comes after an answer
                logger.warning("Failed after an answer: %s", type(error).__name__)
            self.fault = error
        self._end()

    def _end(self) -> None:
        if not self.over:
            if self._splitter.rest:
                self._add(self._splitter.rest)
            self.over = True
            self.seconds = time.monotonic() - self._began
            self._tell()

    def _receive(self) -> Receive:
        pending: list[Message] = [{"type": "http.request", "body": self._body, "more_body": False}]

        async def receive() -> Message:
            if pending:
                return pending.pop()
            await self._abandoned.wait()
            return {"type": "http.disconnect"}

        return receive

    async def _take(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status, self.headers = message["status"], list(message.get("headers", ()))
        else:
            body = message.get("body", b"")
            if self.is_stream:
                for event in self._splitter.feed(body):
                    self._add(event)
            else:
                self.raw += body
            if not message.get("more_body", False):
                self._end()
        self._tell()


def mark_aborted() -> None:
    """Have nothing kept of the answer that this runs for: it was cut off, and may not say so."""
    computation = _current.get()
    if computation is not None:
        computation.aborted = True


def _with_length(scope: Scope, size: int) -> Scope:
    headers = [
        (name, value)
        for name, value in scope["headers"]
        if name not in (b"content-length", b"transfer-encoding")
    ]
    return {**scope, "headers": [*headers, (b"content-length", str(size).encode())]}
