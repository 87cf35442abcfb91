"""Sends requests, in the thread that asks."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, cast

import httpx
import openai
import stamina
from openai.types.chat import ChatCompletionChunk

from .answer import Answer, AnswerReader
from .errors import BrokenAnswer
from .failures import backoff, goes_to_fallback
from .options import chat_request
from .session_state import Message
from .settings import Learnt, Settings, no_reply, reply_of
from .steps import Call, Chat, Pause, Reply, Step, Steps, T
from .turn import finish, read

Opened = tuple["openai.Stream[ChatCompletionChunk]", AnswerReader]


class Transport:
    """Any number of threads may use it."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.learnt = Learnt()
        self._http = httpx.Client(**settings.http())
        self.clients = [
            openai.OpenAI(**settings.openai(endpoint), http_client=self._http)
            for endpoint in settings.endpoints
        ]

    def close(self) -> None:
        """Close all connections."""
        self._http.close()

    def open(
        self, messages: list[Message], options: Mapping[str, Any], *, first_only: bool = False
    ) -> Opened:
        """Send a conversation, anew where that may help; return once an endpoint has begun.

        Raises openai.OpenAIError where none does.
        """
        started = time.monotonic()
        on = backoff(self.settings.retries)
        attempts = 0
        for attempt in stamina.retry_context(on=on, **self.settings.retrying()):
            with attempt:
                attempts += 1
                at, stream = self._open_any(messages, options, 1 if first_only else None)
        reader = AnswerReader(
            self.settings.endpoints[at].url,
            started,
            fallback=at > 0,
            attempts=attempts,
            replayed=stream.response.headers.get("x-cache") == "HIT",
        )
        return stream, reader

    def _open_any(
        self, messages: list[Message], options: Mapping[str, Any], most: int | None
    ) -> tuple[int, openai.Stream[ChatCompletionChunk]]:
        clients = self.clients[:most]
        for at, _ in enumerate(clients):
            try:
                return at, self._open_at(at, messages, options)
            except openai.OpenAIError as error:
                if at + 1 == len(clients) or not goes_to_fallback(error):
                    raise
        raise AssertionError("there is always a first endpoint")

    def _open_at(
        self, at: int, messages: list[Message], options: Mapping[str, Any]
    ) -> openai.Stream[ChatCompletionChunk]:
        endpoint, client = self.settings.endpoints[at], self.clients[at]
        model = self.learnt.model(endpoint)
        if model is None:
            model = self.learnt.take_model(endpoint, client.models.list().data)
        request = chat_request(endpoint, model, messages, options)
        stream = client.chat.completions.create(**request)
        return cast("openai.Stream[ChatCompletionChunk]", stream)

    def call(self, call: Call) -> Reply:
        """Send one request to the first endpoint, once."""
        started = time.monotonic()
        try:
            response = self._http.request(**self.settings.request(call))
        except httpx.HTTPError as error:
            return no_reply(error, time.monotonic() - started)
        return reply_of(response, time.monotonic() - started)

    def run(self, steps: Steps[T]) -> T:
        """Carry out a procedure; return its result."""
        try:
            step = next(steps)
            while True:
                try:
                    result = self._do(step)
                except Exception as error:  # noqa: BLE001 - the procedure decides
                    step = steps.throw(error)
                else:
                    step = steps.send(result)
        except StopIteration as end:
            return cast("T", end.value)

    def _do(self, step: Step) -> Reply | Answer | None:
        if isinstance(step, Call):
            return self.call(step)
        if isinstance(step, Pause):
            time.sleep(step.seconds)
            return None
        return self._chat(step)

    def _chat(self, chat: Chat) -> Answer:
        stream, reader = self.open(chat.messages, chat.options, first_only=True)
        with stream:
            try:
                for chunk in stream:
                    read(reader, chunk)
            except httpx.HTTPError as error:
                raise BrokenAnswer(broken(reader, error)) from error
        return finish(reader, self.learnt)


def broken(reader: AnswerReader, error: Exception) -> str:
    """Say that an answer that had begun came to no end."""
    why = str(error) or type(error).__name__
    return f"{reader.endpoint}: the answer broke off ({why}); ask again"
