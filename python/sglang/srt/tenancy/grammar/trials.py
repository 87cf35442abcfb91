"""Have each grammar tried once before it may reach the scheduler, and remember the verdict.

One grammar at a time, users in turn: who sends many slow ones waits for oneself. Nothing here
blocks the event loop.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections import Counter, OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import msgspec

from sglang.srt.tenancy.errors import RequestError, bad_field
from sglang.srt.tenancy.grammar import wire
from sglang.srt.tenancy.grammar.calls import InvalidGrammar, NoGrammars
from sglang.srt.tenancy.worker.process import WorkerFailed, WorkerProcess

logger = logging.getLogger("sglang.srt.entrypoints.http_server")

_MODULE = "grammar.worker"


class Calls(Protocol):
    """See ``calls.CompilerCalls``."""

    vocabulary: list[bytes]
    add_prefix_space: bool
    stop_tokens: list[int]
    override_stop_tokens: list[int] | None

    def call(self, field: str, grammar: str) -> wire.Compile: ...


@dataclass(frozen=True)
class TrialBounds:
    """What one grammar may take: the flags, and patience.

    ``seconds``: of CPU, to compile it and walk some steps; ``step_seconds``: of CPU, for one step;
    ``memory``: bytes. ``remembered``: verdicts.
    """

    seconds: float = 2.0
    step_seconds: float = 0.02
    memory: int = 256 << 20
    remembered: int = 4096
    start_seconds: float = 120.0

    @property
    def last_seconds(self) -> float:
        """Seconds on the clock after which a trial is given up, however busy the machine is."""
        return 20 * self.seconds + 10


@dataclass
class _Waiting:
    key: tuple[str, bytes]
    call: wire.Compile
    verdict: asyncio.Future[wire.Verdict]


class GrammarTrials:
    """The trial process of one HTTP process, those who wait for it, and what it found."""

    def __init__(self, make_calls: Callable[[], Calls], bounds: TrialBounds = TrialBounds()):
        """``make_calls``: reads the vocabulary; in a thread, when the first grammar comes."""
        self.counts: Counter[str] = Counter()
        self._make_calls = make_calls
        self._bounds = bounds
        self._calls: asyncio.Future[Calls] | None = None
        self._process: WorkerProcess | None = None
        # By the user too: else a fast answer would tell that somebody else used this grammar.
        self._verdicts: OrderedDict[tuple[str, bytes], wire.Verdict] = OrderedDict()
        self._queues: OrderedDict[str, deque[_Waiting]] = OrderedDict()
        self._loop: asyncio.Task[None] | None = None

    async def check(self, user: str, field: str, grammar: str) -> None:
        """Try one field's grammar for a user. Raises RequestError: 400, 503 where it cannot be."""
        try:
            key = user, hashlib.sha256(f"{field}\0{grammar}".encode()).digest()
        except UnicodeEncodeError:
            raise bad_field(field, "holds what is no text (a lone surrogate)") from None
        verdict = self._verdicts.get(key)
        if verdict is not None:
            self._verdicts.move_to_end(key)
            self.counts["remembered"] += 1
        else:
            try:
                call = (await self._known_calls()).call(field, grammar)
                verdict = await self._tried(key, call)
            except NoGrammars:
                return
            except InvalidGrammar as error:
                raise bad_field(field, "cannot be read as a grammar", str(error)) from None
            except Exception as error:  # noqa: BLE001 - of the server, whatever it is
                why = error if isinstance(error, WorkerFailed) else type(error).__name__
                logger.error("A grammar could not be tried: %s.", why)
                raise RequestError(
                    503, field, f"{field}: grammars cannot be tried now; send it again later"
                ) from None
        if verdict.fault is not None:
            raise bad_field(field, self._said_of(verdict.fault), verdict.detail)

    def forget(self, user: str) -> None:
        """Drop a user's verdicts."""
        for key in [key for key in self._verdicts if key[0] == user]:
            del self._verdicts[key]

    def stats(self) -> dict[str, object]:
        """Count what was done so far; numbers only."""
        return {
            "pid": self._process.pid if self._process is not None else None,
            "waiting": sum(map(len, self._queues.values())),
            "remembered": len(self._verdicts),
            "counts": dict(self.counts),
        }

    async def stop(self) -> None:
        """End the process; those who wait are cancelled."""
        if self._loop is not None:
            self._loop.cancel()
            await asyncio.gather(self._loop, return_exceptions=True)
        for queue in self._queues.values():
            for waiting in queue:
                waiting.verdict.cancel()
        self._queues.clear()
        await self._end_process()

    async def _known_calls(self) -> Calls:
        failed = self._calls is not None and self._calls.done() and self._calls.exception()
        if self._calls is None or (failed and not isinstance(failed, NoGrammars)):
            self._calls = asyncio.ensure_future(asyncio.to_thread(self._make_calls))
        return await asyncio.shield(self._calls)

    async def _tried(self, key: tuple[str, bytes], call: wire.Compile) -> wire.Verdict:
        """Wait for a verdict. Cancelled, it is no longer waited for."""
        waiting = _Waiting(key, call, asyncio.get_running_loop().create_future())
        self._queues.setdefault(key[0], deque()).append(waiting)
        if self._loop is None or self._loop.done():
            self._loop = asyncio.ensure_future(self._work())
        return await waiting.verdict

    async def _work(self) -> None:
        """Try what waits, one of each user in turn."""
        while self._queues:
            user, queue = self._queues.popitem(last=False)
            waiting = queue.popleft()
            if queue:
                self._queues[user] = queue  # behind the others
            if waiting.verdict.done():  # its client is gone
                continue
            try:
                verdict = self._verdicts.get(waiting.key) or await self._try(waiting.call)
            except Exception as error:  # noqa: BLE001 - whoever waits must hear of it
                if not waiting.verdict.done():
                    waiting.verdict.set_exception(error)
                continue
            self._remember(waiting.key, verdict)
            if not waiting.verdict.done():
                waiting.verdict.set_result(verdict)

    async def _try(self, call: wire.Compile) -> wire.Verdict:
        """Raises WorkerFailed where two processes in a row end or hang."""
        try:
            verdict = await self._ask(call)
        except WorkerFailed:
            # Not of the grammar: that could end no more than a child of the process.
            self.counts["restarts"] += 1
            verdict = await self._ask(call)
        self.counts["tried"] += 1
        if verdict.fault is not None:
            self.counts[verdict.fault] += 1
        return verdict

    async def _ask(self, call: wire.Compile) -> wire.Verdict:
        try:
            process = await self._started()
            # The process ends the trial itself before that, unless it is stopped.
            seconds = self._bounds.last_seconds + 10
            verdict = wire.answer(await process.ask(wire.encode(call), seconds))
        except BaseException as error:
            await self._end_process()
            if isinstance(error, msgspec.MsgspecError):
                raise WorkerFailed("its answer cannot be read") from None
            raise
        if not isinstance(verdict, wire.Verdict):
            await self._end_process()
            raise WorkerFailed("it gave an answer that was not asked for")
        return verdict

    async def _started(self) -> WorkerProcess:
        if self._process is not None and self._process.has_ended:
            await self._end_process()
        if self._process is None:
            calls, bounds = await self._known_calls(), self._bounds
            setup = wire.Setup(
                calls.vocabulary,
                calls.add_prefix_space,
                calls.stop_tokens,
                calls.override_stop_tokens,
                bounds.seconds,
                bounds.step_seconds,
                bounds.memory,
                bounds.last_seconds,
            )
            self._process = await WorkerProcess.start(
                _MODULE, wire.encode(setup), bounds.start_seconds
            )
        return self._process

    async def _end_process(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            await process.end()

    def _remember(self, key: tuple[str, bytes], verdict: wire.Verdict) -> None:
        self._verdicts[key] = verdict
        while len(self._verdicts) > self._bounds.remembered:
            self._verdicts.popitem(last=False)

    def _said_of(self, fault: wire.Fault) -> str:
        """Say what is wrong with a grammar, and the way out."""
        bounds = self._bounds
        said: dict[wire.Fault, str] = {
            "invalid": "cannot be compiled",
            "slow": f"takes more than {bounds.seconds:g} s to compile; make it simpler",
            "slow step": (
                f"takes more than {bounds.step_seconds * 1000:g} ms for one token; make it simpler"
            ),
            "memory": f"takes more than {bounds.memory >> 20} MB to compile; make it simpler",
            "crash": "ends the process that compiles it; make it simpler",
            "empty": "allows no token",
        }
        return said[fault]
