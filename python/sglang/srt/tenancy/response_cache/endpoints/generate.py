"""/generate: SGLang's own; a list of objects where there is more than one sample."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from sglang.srt.tenancy.response_cache.endpoints import answers, generate_stream, sse
from sglang.srt.tenancy.response_cache.endpoints.endpoint import Body, Split
from sglang.srt.tenancy.response_cache.endpoints.generate_events import events_of
from sglang.srt.tenancy.response_cache.endpoints.pieces import in_turns


@dataclass(frozen=True, slots=True)
class Generate:
    """``incremental``: replay what is new in each event, not all so far, as a server does that was
    started with --incremental-streaming-output. Of what others stream, the events tell."""

    incremental: bool = False
    path: str = "/generate"

    def asked_stream(self, body: Mapping[str, Any]) -> Body:
        return {**body, "stream": True}

    def shown(self, event: bytes, body: Mapping[str, Any]) -> bytes | None:
        return event

    def keep(self, kept: list[bytes], event: bytes) -> None:
        generate_stream.keep(kept, event)

    def assembled(self, events: Iterable[bytes], body: Mapping[str, Any]) -> bytes | None:
        kept: list[bytes] = []
        for event in events:
            self.keep(kept, event)
        try:
            found, done = sse.objects(kept)
            answer = generate_stream.put_together(found) if done else None
            return None if answer is None else orjson.dumps(answer)
        except answers.MALFORMED:
            # Not what this endpoint streams.
            return None

    def complete(self, answer: bytes) -> bool:
        samples = _samples(answer)
        # The shorter stream will do.
        events = Generate(incremental=True).replayed(answer, {}, answers.uncut)
        return bool(samples) and all(map(_complete, samples)) and answers.can_be_read(events)

    def replayed(self, answer: bytes, body: Mapping[str, Any], split: Split) -> Iterator[bytes]:
        value = answers.loaded(answer)
        if isinstance(value, list):
            numbered = ({**sample, "index": index} for index, sample in enumerate(value))
            yield from in_turns(events_of(sample, split, self.incremental) for sample in numbered)
        else:
            yield from events_of(value, split, self.incremental)
        yield sse.DONE

    def samples(self, body: Mapping[str, Any]) -> int | None:
        sampling = body.get("sampling_params")
        if _batched(body) or not isinstance(sampling, (Mapping, type(None))):
            return None
        number = (sampling or {}).get("n")
        if number is None:
            return 1
        return number if type(number) is int and number > 0 else None

    def held(self, answer: bytes) -> int:
        return len(_samples(answer))

    def with_samples(self, body: Mapping[str, Any], number: int) -> Body:
        return {**body, "sampling_params": {**(body.get("sampling_params") or {}), "n": number}}

    def picked(self, given: Sequence[bytes], numbers: Sequence[int]) -> bytes:
        all_of = [sample for answer in given for sample in _samples(answer)]
        if len(given) == 1 and list(numbers) == list(range(len(all_of))):
            return given[0]
        chosen = [all_of[number] for number in numbers]
        return orjson.dumps(chosen if len(chosen) > 1 else chosen[0])

    def named(self, answer: bytes, rid: str) -> bytes:
        value = answers.loaded(answer)
        if isinstance(value, list):
            # As upstream does: the request's id, and something for each sample.
            return orjson.dumps([_with_id(s, f"{rid}_{number}") for number, s in enumerate(value)])
        return orjson.dumps(_with_id(value, rid))


def _complete(sample: Any) -> bool:
    return (
        isinstance(sample, dict)
        and sample.get("error") is None
        and generate_stream.finished(sample)
    )


def _with_id(sample: Body, rid: str) -> Body:
    return {**sample, "meta_info": {**sample["meta_info"], "id": rid}}


def _samples(answer: bytes) -> list[Any]:
    value = answers.loaded(answer)
    if isinstance(value, list):
        return value
    return [] if value is None else [value]


def _batched(body: Mapping[str, Any]) -> bool:
    """Tell whether a request has several prompts, even a list of one."""
    ids, embeds = body.get("input_ids"), body.get("input_embeds")
    return (
        isinstance(body.get("text"), list)
        or (isinstance(ids, list) and any(isinstance(each, list) for each in ids))
        or (isinstance(embeds, list) and any(_is_nested(each) for each in embeds))
    )


def _is_nested(value: Any) -> bool:
    return isinstance(value, list) and any(isinstance(each, list) for each in value)
