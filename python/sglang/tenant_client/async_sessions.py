"""Sessions for asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from types import TracebackType
from typing import Any

import httpx
import openai
from openai.types.chat import ChatCompletionChunk
from typing_extensions import Unpack

from .answer import Answer, AnswerReader
from .async_transport import AsyncTransport
from .errors import BrokenAnswer, ClientError, TurnOpen
from .named_sessions import NamedSessions
from .options import Options, check_options
from .session_state import Bounds, SessionState
from .sync_transport import broken
from .turn import TurnOfSession, read
from .warming import Warmth, warm


class AsyncSession:
    """A conversation. Its turns wait for one another, whichever tasks ask."""

    def __init__(self, sessions: AsyncSessions, state: SessionState, warmth: Warmth | None) -> None:
        self._sessions = sessions
        self._key = state.key
        self.name = state.name
        self.warmth = warmth
        self.turn_lock = AsyncTurnLock(state.name)

    @property
    def state(self) -> SessionState:
        """The conversation as it is now. Raises NoSession once it is deleted."""
        return self._sessions.table.get(self.name, self._key)

    async def ask(self, text: str, **options: Unpack[Options]) -> Answer:
        """Say something, and wait for the answer. Where that fails the session stays as it was."""
        async with self.stream(text, **options) as stream:
            async for _ in stream:
                pass
        return stream.answer

    def stream(self, text: str, **options: Unpack[Options]) -> AsyncAnswerStream:
        """Say something, and get the answer piece by piece.

        ``async with session.stream(...) as pieces``, in that block ``async for piece in pieces``:
        who leaves it before the last piece cancels the turn.
        """
        return AsyncAnswerStream(self, self._sessions, text, check_options(options))

    def fork(self, name: str) -> AsyncSession:
        """Begin another session with the same conversation; the server holds it once for both."""
        return self._sessions.fork(self.name, name)

    def turn(self, text: str, options: Mapping[str, Any]) -> TurnOfSession:
        """Plan the next turn; only for who holds the lock."""
        return TurnOfSession(self._sessions.table, self.name, self._key, text, options)


class AsyncTurnLock:
    """Held by one task at a time, which may not ask twice."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._lock = asyncio.Lock()
        self._holder: asyncio.Task[Any] | None = None

    async def acquire(self) -> None:
        """Wait for the lock. Raises TurnOpen in the task that holds it."""
        if self._holder == asyncio.current_task():
            raise TurnOpen(self._name)
        await self._lock.acquire()
        self._holder = asyncio.current_task()

    def release(self) -> None:
        """Let the next one have it."""
        self._holder = None
        self._lock.release()


class AsyncAnswerStream:
    """The pieces of an answer, and then the whole of it: ``answer``."""

    def __init__(
        self, session: AsyncSession, sessions: AsyncSessions, text: str, options: Mapping[str, Any]
    ) -> None:
        self._session = session
        self._transport = sessions.transport
        self._asked = (text, options)
        self._turn: TurnOfSession | None = None
        self._stream: openai.AsyncStream[ChatCompletionChunk] | None = None
        self._reader: AnswerReader | None = None

    async def __aenter__(self) -> AsyncAnswerStream:
        """Wait for the session's turns before, and send. Raises openai.OpenAIError."""
        await self._session.turn_lock.acquire()
        try:
            self._turn = self._session.turn(*self._asked)
            opened = await self._transport.open(self._turn.messages, self._turn.options)
            self._stream, self._reader = opened
        except BaseException:
            self._session.turn_lock.release()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End the turn; without the last piece it leaves nothing."""
        try:
            if self._stream is not None:
                await self._stream.close()
        finally:
            self._session.turn_lock.release()

    async def __aiter__(self) -> AsyncIterator[str]:
        """Yield what is added to the text. Raises BrokenAnswer and openai.OpenAIError."""
        if self._turn is None or self._stream is None or self._reader is None:
            raise ClientError("a stream answers inside its `async with` block only")
        try:
            async for chunk in self._stream:
                if piece := read(self._reader, chunk):
                    yield piece
        except httpx.HTTPError as error:
            raise BrokenAnswer(broken(self._reader, error)) from error
        self._turn.end(self._reader, self._transport.learnt)

    @property
    def answer(self) -> Answer:
        """The answer, after its last piece. Raises ClientError before."""
        if self._turn is None or self._turn.answer is None:
            raise ClientError("the answer is not complete; read all pieces first")
        return self._turn.answer


class AsyncSessions(NamedSessions[AsyncSession]):
    """All sessions of a client, by name."""

    def __init__(self, transport: AsyncTransport) -> None:
        super().__init__()
        self.transport = transport

    async def create(
        self,
        name: str,
        system: str | None = None,
        *,
        warm_system: bool = True,
        history_turns: int | None = None,
        history_tokens: int | None = None,
        keep: float = 0.5,
        options: Options | None = None,
    ) -> AsyncSession:
        """Begin a session.

        ``warm_system``: have the server compute the system prompt now; ``session.warmth`` says what
        came of it. ``history_turns``, ``history_tokens``, ``keep``: see Bounds. ``options``: sent
        with every turn. Raises SessionExists, BadArgument, openai.OpenAIError.
        """
        bounds = Bounds(history_turns, history_tokens, keep)
        state = self._begin(name, system, bounds, options)
        warmth = None
        if system and warm_system:
            try:
                warmth = await self.transport.run(warm(system, state.options))
            except BaseException:
                self.table.discard(state)
                raise
        return self._handle(state, warmth)

    def _make(self, state: SessionState, warmth: Warmth | None) -> AsyncSession:
        return AsyncSession(self, state, warmth)
