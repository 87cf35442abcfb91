"""One turn of a session, from its plan to what it leaves: the same for threads and for asyncio."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .answer import Answer, AnswerReader
from .options import check_options, merged
from .session_state import Message, plan
from .session_table import SessionTable
from .settings import Learnt

if TYPE_CHECKING:
    from openai.types.chat import ChatCompletionChunk


class TurnOfSession:
    """Made when it is the session's turn: what it sends depends on the turns before."""

    def __init__(
        self, table: SessionTable, name: str, key: str, text: str, options: Mapping[str, Any]
    ) -> None:
        """Raise NoSession where it was deleted, and BadArgument."""
        state = table.get(name, key)
        self._table = table
        self._plan = plan(state, text)
        self.options: Mapping[str, Any] = merged(state.options, check_options(options))
        self.answer: Answer | None = None

    @property
    def messages(self) -> list[Message]:
        """What is sent."""
        return self._plan.messages

    def end(self, reader: AnswerReader, learnt: Learnt) -> Answer:
        """Let the session go on by the answer, and return that. Raises BrokenAnswer."""
        self.answer = finish(reader, learnt, self._plan.dropped)
        figures = self.answer.figures
        counts = (figures.prompt_tokens, figures.completion_tokens)
        self._table.update(self._plan.after(self.answer.text, *counts, time.time()))
        return self.answer


def read(reader: AnswerReader, chunk: ChatCompletionChunk) -> str:
    """Take a chunk that has just come; return what it adds to the text."""
    return reader.feed(chunk, time.monotonic())


def finish(reader: AnswerReader, learnt: Learnt, dropped: int = 0) -> Answer:
    """Return the answer that was read. Raises BrokenAnswer."""
    if reader.reported_cached is not None:
        learnt.reporting.add(reader.endpoint)
    reports = reader.endpoint in learnt.reporting
    return reader.end(time.monotonic(), reports_cached=reports, dropped_turns=dropped)
