"""An answer, read piece by piece, and its figures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .errors import BrokenAnswer

if TYPE_CHECKING:
    from openai.types.chat import ChatCompletionChunk
    from openai.types.completion_usage import CompletionUsage


@dataclass(frozen=True)
class Figures:
    """What a request took. None: the server did not say.

    ``cached_tokens``: of ``prompt_tokens``, how many were not computed anew. ``first_token``,
    ``seconds``: from the request's (first) sending. ``endpoint``: who answered;
    ``fallback``: it was not the first one. ``attempts``: how often the request was sent.
    ``replayed``: it comes from a response cache, and so do the counts of tokens.
    """

    endpoint: str
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cached_tokens: int | None = None
    first_token: float | None = None
    seconds: float = 0.0
    fallback: bool = False
    attempts: int = 1
    replayed: bool = False

    @property
    def hit_share(self) -> float | None:
        """Which share of the prompt was cached."""
        if self.cached_tokens is None or not self.prompt_tokens:
            return None
        return self.cached_tokens / self.prompt_tokens


@dataclass(frozen=True)
class Answer:
    """``dropped_turns``: how many of the oldest turns were not sent, and are forgotten."""

    text: str
    reasoning: str
    finish_reason: str
    model: str
    figures: Figures
    dropped_turns: int = 0


class AnswerReader:
    """Reads the chunks of a stream.

    ``started``: by the clock that ``feed`` and ``end`` are told the time by.
    """

    def __init__(
        self,
        endpoint: str,
        started: float,
        *,
        fallback: bool = False,
        attempts: int = 1,
        replayed: bool = False,
    ) -> None:
        self.endpoint = endpoint
        self._started = started
        self._fallback = fallback
        self._attempts = attempts
        self._replayed = replayed
        self._text: list[str] = []
        self._reasoning: list[str] = []
        self._usage: CompletionUsage | None = None
        self._first_token: float | None = None
        self._finish_reason: str | None = None
        self._model = ""

    def feed(self, chunk: ChatCompletionChunk, now: float) -> str:
        """Take the next chunk; return what it adds to the text, often nothing."""
        self._model = chunk.model or self._model
        self._usage = chunk.usage or self._usage
        added = ""
        for choice in chunk.choices:
            self._finish_reason = choice.finish_reason or self._finish_reason
            text = choice.delta.content or ""
            # A field of SGLang's own, and of others who serve models that reason.
            reasoning = getattr(choice.delta, "reasoning_content", None) or ""
            if (text or reasoning) and self._first_token is None:
                self._first_token = now - self._started
            self._text.append(text)
            self._reasoning.append(reasoning)
            added += text
        return added

    @property
    def reported_cached(self) -> int | None:
        """Cached tokens as the server wrote them; servers leave out zeros."""
        details = self._usage.prompt_tokens_details if self._usage else None
        return details.cached_tokens if details else None

    def end(self, now: float, *, reports_cached: bool, dropped_turns: int = 0) -> Answer:
        """Return the answer. Raises BrokenAnswer where it is not complete.

        ``reports_cached``: the server is known to report, so that what it leaves out is a zero.
        """
        if self._finish_reason is None:
            raise BrokenAnswer(f"{self.endpoint}: the answer stopped before its end; ask again")
        if self._finish_reason == "abort":
            raise BrokenAnswer(f"{self.endpoint}: the server ended the answer; ask again")
        usage = self._usage
        cached = self.reported_cached
        figures = Figures(
            endpoint=self.endpoint,
            prompt_tokens=usage.prompt_tokens if usage else None,
            completion_tokens=usage.completion_tokens if usage else None,
            cached_tokens=0 if cached is None and usage and reports_cached else cached,
            first_token=self._first_token,
            seconds=now - self._started,
            fallback=self._fallback,
            attempts=self._attempts,
            replayed=self._replayed,
        )
        return Answer(
            text="".join(self._text),
            reasoning="".join(self._reasoning),
            finish_reason=self._finish_reason,
            model=self._model,
            figures=figures,
            dropped_turns=dropped_turns,
        )
