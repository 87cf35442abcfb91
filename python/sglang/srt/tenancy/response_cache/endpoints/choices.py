"""What completions and chats have in common: an object of choices, each a sample."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

import orjson

from sglang.srt.tenancy.response_cache.endpoints import answers, sse
from sglang.srt.tenancy.response_cache.endpoints.endpoint import Body, Split
from sglang.srt.tenancy.response_cache.endpoints.pieces import cut, in_turns

_ALL_OPTIONS = {"stream_options": {"include_usage": True, "continuous_usage_stats": True}}

# Finish reasons of what did not finish.
UNFINISHED = (None, "abort", "error")

# Of chunks: not of the final object, or put together in another way. The last one hides a text's
# length from who watches the line.
_NOT_COPIED = ("object", "choices", "usage", "obfuscation")
# Of final objects: what no stream has, or has in an event of its own.
_NOT_STREAMED = ("object", "choices", "usage", "metadata", "sglext")


class ChoicesEndpoint(ABC):
    """Answers with an object of ``choices``, or a stream of chunks of them."""

    path: ClassVar[str]
    kind: ClassVar[str]
    chunk_kind: ClassVar[str]
    # Fields that a request asks for, and no stream carries.
    whole_only: ClassVar[tuple[str, ...]] = ()

    def asked_stream(self, body: Mapping[str, Any]) -> Body:
        options = body.get("stream_options")
        options = dict(options) if isinstance(options, Mapping) else {}
        return {**body, "stream": True, "stream_options": {**options, "include_usage": True}}

    def shown(self, event: bytes, body: Mapping[str, Any]) -> bytes | None:
        if asks(body, "include_usage") or b'"usage"' not in event or b'"usage":null' in event:
            return event
        try:
            chunks, _ = sse.objects([event])
        except sse.BrokenStream:
            return event
        only_usage = all(chunk.get("choices") == [] and chunk.get("usage") for chunk in chunks)
        return None if chunks and only_usage else event

    def keep(self, kept: list[bytes], event: bytes) -> None:
        kept.append(event)

    def assembled(self, events: Iterable[bytes], body: Mapping[str, Any]) -> bytes | None:
        if any(body.get(field) for field in self.whole_only):
            return None
        try:
            chunks, done = sse.objects(events)
            answer = self._put_together(chunks) if done else None
            if answer is None or not self._says_all(answer, chunks, body):
                return None
            return orjson.dumps(answer)
        except answers.MALFORMED:
            # Not what this endpoint streams.
            return None

    def _put_together(self, chunks: Sequence[Body]) -> Body | None:
        head: Body = {}
        usage: Any = None
        choices: dict[int, Body] = {}
        for chunk in chunks:
            usage = chunk.get("usage") or usage
            for name, value in chunk.items():
                if name not in _NOT_COPIED and head.get(name) is None:
                    head[name] = value
            for delta in chunk["choices"]:
                self._add(choices.setdefault(delta["index"], {}), delta)
        if not _all_finished(choices):
            return None
        # The order is upstream's.
        base = {"id": head.pop("id", None), "object": self.kind}
        base |= {name: head.pop(name) for name in ("created", "model") if name in head}
        base["choices"] = [self._whole(choices[index]) for index in sorted(choices)]
        return base | ({} if usage is None else {"usage": usage}) | head

    def complete(self, answer: bytes) -> bool:
        value = answers.loaded_object(answer)
        choices = value.get("choices")
        return (
            value.get("error") is None
            and isinstance(choices, list)
            and bool(choices)
            and all(_finished(choice) for choice in choices)
            and answers.can_be_read(self.replayed(answer, _ALL_OPTIONS, answers.uncut))
        )

    def replayed(self, answer: bytes, body: Mapping[str, Any], split: Split) -> Iterator[bytes]:
        value = answers.loaded_object(answer)
        kept = {name: value[name] for name in value if name not in _NOT_STREAMED}
        head = {"id": value.get("id"), "object": self.chunk_kind} | kept
        choices = value["choices"]
        # Which of its tokens each choice took, usage does not say.
        usage = value.get("usage") if asks(body, "continuous_usage_stats") else None
        yield from in_turns(self._chunks(head, each, body, split, usage) for each in choices)
        yield from self._after(head, choices)
        if value.get("sglext") is not None:
            yield sse.written({**head, "choices": [], "usage": None, "sglext": value["sglext"]})
        if asks(body, "include_usage") and value.get("usage") is not None:
            yield sse.written({**head, "choices": [], "usage": value["usage"]})
        yield sse.DONE

    def samples(self, body: Mapping[str, Any]) -> int | None:
        number = body.get("n")
        if number is None:
            return 1
        return number if type(number) is int and number > 0 else None

    def held(self, answer: bytes) -> int:
        choices = answers.loaded_object(answer).get("choices")
        return len(choices) if isinstance(choices, list) else 0

    def with_samples(self, body: Mapping[str, Any], number: int) -> Body:
        return {**body, "n": number}

    def picked(self, given: Sequence[bytes], numbers: Sequence[int]) -> bytes:
        values = [answers.loaded_object(answer) for answer in given]
        all_of = [(value, choice) for value in values for choice in value["choices"]]
        if len(values) == 1 and list(numbers) == list(range(len(all_of))):
            return given[0]
        chosen = [all_of[number] for number in numbers]
        used = [value for value in values if any(value is of for of, _ in chosen)]
        choices = [{**choice, "index": index} for index, (_, choice) in enumerate(chosen)]
        usage = answers.total(value.get("usage") for value in used)
        merged = {**chosen[0][0], "choices": choices}
        return orjson.dumps(merged if usage is None else merged | {"usage": usage})

    def named(self, answer: bytes, rid: str) -> bytes:
        return answers.with_id(answer, rid)

    def _says_all(self, answer: Body, chunks: Sequence[Body], body: Mapping[str, Any]) -> bool:
        """Tell whether a stream held all that a whole answer would have."""
        return True

    @abstractmethod
    def _add(self, choice: Body, delta: Body) -> None:
        """Add a chunk's part of a choice to what came before of it."""

    @abstractmethod
    def _whole(self, choice: Body) -> Body:
        """Return a choice of the final object."""

    @abstractmethod
    def _chunks(
        self, head: Body, choice: Body, body: Mapping[str, Any], split: Split, usage: Any
    ) -> Iterator[bytes]:
        """Stream one choice. ``usage``: what all took, where each chunk is to say so far."""

    @abstractmethod
    def _after(self, head: Body, choices: Sequence[Body]) -> Iterator[bytes]:
        """Stream what comes when all choices have ended."""


def asks(body: Mapping[str, Any], option: str) -> bool:
    """Tell whether a request asks for one of ``stream_options``."""
    options = body.get("stream_options")
    return isinstance(options, Mapping) and bool(options.get(option))


def so_far(usage: Any, tokens: int) -> Body | None:
    """Say what a choice took up to one of its chunks; None where it was not asked for."""
    if not isinstance(usage, Mapping):
        return None
    prompt = usage.get("prompt_tokens") or 0
    return {**usage, "completion_tokens": tokens, "total_tokens": prompt + tokens}


def merged_lists(one: Any, other: Any) -> Any:
    """Append each list of a chunk's logprobs to what came before."""
    if other is None:
        return one
    if one is None:
        return {name: [*v] if isinstance(v, list) else v for name, v in other.items()}
    for name, values in other.items():
        before = one.get(name)
        if isinstance(before, list) and isinstance(values, list):
            before.extend(values)
        elif before is None:
            one[name] = values
    return one


def cut_logprobs(logprobs: Any, part: tuple[int, int, int], first: bool) -> Body | None:
    """Return the logprobs of a chunk's tokens; lists of another length go with the first chunk."""
    begin, end, tokens = part
    if logprobs is None or (begin == end and not first):
        return None
    shown: Body = {}
    for name, values in logprobs.items():
        if isinstance(values, list):
            whole = values if first else []
            shown[name] = cut(values, part) if len(values) == tokens else whole
        else:
            shown[name] = values if first else None
    return shown


def _finished(choice: Any) -> bool:
    return isinstance(choice, dict) and choice.get("finish_reason") not in UNFINISHED


def _all_finished(choices: Mapping[int, Body]) -> bool:
    finished = all(choice.get("finish_reason") is not None for choice in choices.values())
    return bool(choices) and finished and set(choices) == set(range(len(choices)))
