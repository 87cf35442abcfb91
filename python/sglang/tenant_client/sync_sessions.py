"""Sessions for threads."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Any

import httpx
import openai
from openai.types.chat import ChatCompletionChunk
from typing_extensions import Unpack

from .answer import Answer, AnswerReader
from .errors import BrokenAnswer, ClientError, TurnOpen
from .named_sessions import NamedSessions
from .options import Options, check_options
from .session_state import Bounds, SessionState
from .sync_transport import Transport, broken
from .turn import TurnOfSession, read
from .warming import Warmth, warm


class Session:
    """A conversation. Its turns wait for one another, whichever threads ask."""

    def __init__(self, sessions: Sessions, state: SessionState, warmth: Warmth | None) -> None:
        self._sessions = sessions
        self._key = state.key
        self.name = state.name
        self.warmth = warmth
        self.turn_lock = TurnLock(state.name)

    @property
    def state(self) -> SessionState:
        """The conversation as it is now. Raises NoSession once it is deleted."""
        return self._sessions.table.get(self.name, self._key)

    def ask(self, text: str, **options: Unpack[Options]) -> Answer:
        """Say something, and wait for the answer. Where that fails the session stays as it was."""
        with self.stream(text, **options) as stream:
            for _ in stream:
                pass
        return stream.answer

    def stream(self, text: str, **options: Unpack[Options]) -> AnswerStream:
        """Say something, and get the answer piece by piece.

        ``with session.stream(...) as pieces``, in that block ``for piece in pieces``: who leaves it
        before the last piece cancels the turn.
        """
        return AnswerStream(self, self._sessions, text, check_options(options))

    def fork(self, name: str) -> Session:
        """Begin another session with the same conversation; the server holds it once for both."""
        return self._sessions.fork(self.name, name)

    def turn(self, text: str, options: Mapping[str, Any]) -> TurnOfSession:
        """Plan the next turn; only for who holds the lock."""
        return TurnOfSession(self._sessions.table, self.name, self._key, text, options)


class TurnLock:
    """Held by one thread at a time, which may not ask twice."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._lock = threading.Lock()
        self._holder: int | None = None

    def acquire(self) -> None:
        """Wait for the lock. Raises TurnOpen in the thread that holds it."""
        if self._holder == threading.get_ident():
            raise TurnOpen(self._name)
        self._lock.acquire()
        self._holder = threading.get_ident()

    def release(self) -> None:
        """Let the next one have it."""
        self._holder = None
        self._lock.release()


class AnswerStream:
    """The pieces of an answer, and then the whole of it: ``answer``."""

    def __init__(
        self, session: Session, sessions: Sessions, text: str, options: Mapping[str, Any]
    ) -> None:
        self._session = session
        self._transport = sessions.transport
        self._asked = (text, options)
        self._turn: TurnOfSession | None = None
        self._stream: openai.Stream[ChatCompletionChunk] | None = None
        self._reader: AnswerReader | None = None

    def __enter__(self) -> AnswerStream:
        """Wait for the session's turns before, and send. Raises openai.OpenAIError."""
        self._session.turn_lock.acquire()
        try:
            self._turn = self._session.turn(*self._asked)
            opened = self._transport.open(self._turn.messages, self._turn.options)
            self._stream, self._reader = opened
        except BaseException:
            self._session.turn_lock.release()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End the turn; without the last piece it leaves nothing."""
        try:
            if self._stream is not None:
                self._stream.close()
        finally:
            self._session.turn_lock.release()

    def __iter__(self) -> Iterator[str]:
        """Yield what is added to the text. Raises BrokenAnswer and openai.OpenAIError."""
        if self._turn is None or self._stream is None or self._reader is None:
            raise ClientError("a stream answers inside its `with` block only")
        try:
            for chunk in self._stream:
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


class Sessions(NamedSessions[Session]):
    """All sessions of a client, by name."""

    def __init__(self, transport: Transport) -> None:
        super().__init__()
        self.transport = transport

    def create(
        self,
        name: str,
        system: str | None = None,
        *,
        warm_system: bool = True,
        history_turns: int | None = None,
        history_tokens: int | None = None,
        keep: float = 0.5,
        options: Options | None = None,
    ) -> Session:
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
                warmth = self.transport.run(warm(system, state.options))
            except BaseException:
                self.table.discard(state)
                raise
        return self._handle(state, warmth)

    def _make(self, state: SessionState, warmth: Warmth | None) -> Session:
        return Session(self, state, warmth)
