"""Answer requests from what was answered before, or once for all who ask the same at a time."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sglang.srt.tenancy.response_cache.cacheable_request import CacheableRequest
from sglang.srt.tenancy.response_cache.computation import Computation
from sglang.srt.tenancy.response_cache.endpoints.endpoint import Split
from sglang.srt.tenancy.response_cache.entry import Entry, Key
from sglang.srt.tenancy.response_cache.response_writer import (
    HIT,
    MISS,
    ResponseWriter,
    saying_bypass,
)
from sglang.srt.tenancy.response_cache.store import ResponseStore

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

    from sglang.srt.tenancy.response_cache.computation import App

_OK = 200

# Tells whether a kept answer may still be given: path and body of a request, the answer.
Usable = Callable[[str, Mapping[str, Any], bytes], bool]


# Samples that are kept, and those that are computed to join them.
_Name = tuple[Key, int, int]


@dataclass(slots=True)
class _Flight:
    """A computation, and what its answer is added to."""

    computation: Computation
    base: Entry | None
    ticket: object
    cleared: bool = False

    @property
    def may_be_joined(self) -> bool:
        """False where it is of before a clear, or may have been aborted: all who waited left."""
        return not (self.cleared or self.computation.abandoned)


class ResponseCache:
    """Answers requests of many users, in front of an ASGI app that computes.

    ``split``: cuts a text as the engine streams it. ``counts``: requests; ``seconds_saved``: that
    the engine took for what was given again.
    """

    def __init__(
        self,
        store: ResponseStore,
        split: Split,
        usable: Usable = lambda path, body, answer: True,
        now: Callable[[], float] = time.time,
    ):
        self.store = store
        self.counts = Counter({"hits": 0, "misses": 0, "bypasses": 0})
        self.seconds_saved = 0.0
        self._split = split
        self._usable = usable
        self._now = now
        self._flights: dict[_Name, _Flight] = {}
        self._keeping: set[asyncio.Task[None]] = set()
        self._kept_so_far = 0

    @property
    def computing(self) -> int:
        """How many computations are going on, or being kept."""
        return len(self._flights)

    async def clear(self, owner: str | None = None) -> int:
        """Drop what is kept of one owner, or of all. Returns how many entries.

        What is being computed is for those who wait by now, and is not kept.
        """
        for (key, _, _), flight in self._flights.items():
            flight.cleared |= owner in (None, key.owner)
        return await self.store.clear(owner)

    async def bypass(self, app: App, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on a request that the cache has nothing to do with, and say so."""
        self.counts["bypasses"] += 1
        await app(scope, receive, saying_bypass(send))

    async def answer(
        self, asked: CacheableRequest, app: App, scope: Scope, receive: Receive, send: Send
    ) -> None:
        """Answer a request whose body has been read, until its client leaves.

        Raises what ``app`` raises.
        """
        answering = asyncio.ensure_future(self._answer(asked, app, scope, send))
        leaving = asyncio.ensure_future(_gone(receive))
        try:
            await asyncio.wait({answering, leaving}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            answering.cancel()
            leaving.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await answering

    async def _answer(self, asked: CacheableRequest, app: App, scope: Scope, send: Send) -> None:
        writer = ResponseWriter(asked, self._split, send)
        entry, ticket = await self._look_up(asked)
        if entry is not None and (kept := self._enough(entry, asked)) is not None:
            self.counts["hits"] += 1
            self.seconds_saved += entry.seconds
            await writer.whole(kept, HIT, max(0, int(self._now() - entry.created)))
            return
        flight, told = None, False
        while not told:
            flight, joined = self._join_or_start(asked, entry, ticket, app, scope, failed=flight)
            self.counts["hits" if joined else "misses"] += 1
            flight.computation.watch()
            try:
                told = await self._follow(flight, writer, asked, HIT if joined else MISS)
            finally:
                flight.computation.leave()

    async def _look_up(self, asked: CacheableRequest) -> tuple[Entry | None, object]:
        """Return what is kept, if the request wants it. Not older than what is being computed."""
        while True:
            before = self._kept_so_far
            found = await self.store.get(asked.key)
            if found.entry is not None or before == self._kept_so_far:
                break
        entry = found.entry
        if entry is None or asked.fresh:
            return None, found.ticket
        old = asked.max_age is not None and self._now() - entry.created > asked.max_age
        if old or not self._usable(asked.endpoint.path, asked.body, entry.bodies[0]):
            return None, found.ticket
        return entry, found.ticket

    def _enough(self, entry: Entry, asked: CacheableRequest) -> bytes | None:
        """Return the answer that an entry makes; None where it holds too few samples."""
        if not asked.bucket:
            return entry.bodies[0]
        held = _held(entry, asked)
        if held < asked.samples:
            return None
        numbers = sorted(random.sample(range(held), asked.samples))
        return asked.endpoint.picked(entry.bodies, numbers)

    def _join_or_start(
        self,
        asked: CacheableRequest,
        entry: Entry | None,
        ticket: object,
        app: App,
        scope: Scope,
        failed: _Flight | None,
    ) -> tuple[_Flight, bool]:
        """Return the computation of what is missing, and whether it was going on before.

        ``failed``: one that this client has waited for in vain.
        """
        held = _held(entry, asked) if asked.bucket and entry is not None else 0
        missing = asked.samples - held
        name = (asked.key, held, missing)
        flight = self._flights.get(name)
        if flight is not None and flight.may_be_joined and not (flight is failed or asked.fresh):
            return flight, True
        streamed = asked.streamed and entry is None
        body = asked.endpoint.with_samples(asked.body, missing) if asked.bucket else asked.body
        body = asked.endpoint.asked_stream(body) if streamed else {**body, "stream": False}
        flight = _Flight(Computation(asked.endpoint, body), entry, ticket)
        flight.computation.start(app, scope)
        self._flights[name] = flight
        keeping = asyncio.get_running_loop().create_task(self._keep(name, flight, asked))
        self._keeping.add(keeping)
        keeping.add_done_callback(self._keeping.discard)
        return flight, False

    async def _keep(self, name: _Name, flight: _Flight, asked: CacheableRequest) -> None:
        """Keep a computation's answer, if there is a complete one."""
        try:
            answer = await _answer_of(flight.computation, asked)
            if answer is not None:
                entry = self._entry(flight, answer, asked)
                await self.store.put(asked.key, entry, flight.ticket)
                self._kept_so_far += 1
        finally:
            if self._flights.get(name) is flight:
                del self._flights[name]

    def _entry(self, flight: _Flight, answer: bytes, asked: CacheableRequest) -> Entry:
        base, seconds = flight.base, flight.computation.seconds
        if base is None:
            return Entry(self._now(), seconds, (answer,))
        bodies = (*base.bodies, answer)
        held = sum(map(asked.endpoint.held, bodies))
        if held > asked.bucket:
            bodies = (asked.endpoint.picked(bodies, range(asked.bucket)),)
        return Entry(base.created, base.seconds + seconds, bodies)

    async def _follow(
        self, flight: _Flight, writer: ResponseWriter, asked: CacheableRequest, said: bytes
    ) -> bool:
        """Tell a client what a computation answers.

        False: it was a stream that failed, which only those who saw it grow can make use of.
        """
        computation = flight.computation
        await computation.begun()
        mine = said is MISS or asked.rid is None
        if computation.is_stream and asked.streamed and flight.base is None and mine:
            await writer.live(computation, said)
            return True
        answer = await _answer_of(computation, asked)
        if answer is None:
            if computation.is_stream:
                return False
            await writer.as_it_is(computation, said)
            return True
        if flight.base is not None:
            bodies = (*flight.base.bodies, answer)
            answer = asked.endpoint.picked(bodies, range(asked.samples))
        await writer.whole(answer, said, 0)
        return True


async def _answer_of(computation: Computation, asked: CacheableRequest) -> bytes | None:
    """Return the final object of a computation, when it has ended; None without a complete one."""
    await computation.ended()
    if computation.status != _OK or computation.aborted:
        return None
    if computation.is_stream:
        answer = asked.endpoint.assembled(computation.kept, asked.body)
    else:
        answer = bytes(computation.raw)
    return answer if answer is not None and asked.endpoint.complete(answer) else None


def _held(entry: Entry, asked: CacheableRequest) -> int:
    return sum(map(asked.endpoint.held, entry.bodies))


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
