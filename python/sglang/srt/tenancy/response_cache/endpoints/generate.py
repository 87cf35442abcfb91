"""/generate: SGLang's own; a list of objects where there is more than one sample."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from sglang.srt.tenancy.response_cache.endpoints import answers, sse
from sglang.srt.tenancy.response_cache.endpoints.choices import UNFINISHED
from sglang.srt.tenancy.response_cache.endpoints.endpoint import Body, Split
from sglang.srt.tenancy.response_cache.endpoints.generate_events import GROWING, events_of
from sglang.srt.tenancy.response_cache.endpoints.pieces import in_turns, text_of


@dataclass(frozen=True, slots=True)
class Generate:
    """``incremental``: events hold what is new, not all so far (--incremental-streaming-output);
    of a server that is not ours, the events themselves tell."""

    incremental: bool = False
    path: str = "/generate"

    def asked_stream(self, body: Mapping[str, Any]) -> Body:
        return {**body, "stream": True}

    def shown(self, event: bytes, body: Mapping[str, Any]) -> bytes | None:
        return event

    def assembled(self, events: Iterable[bytes], body: Mapping[str, Any]) -> bytes | None:
        try:
            found, done = sse.objects(events)
            samples: dict[int | None, list[Body]] = defaultdict(list)
            for event in found:
                samples[event.pop("index", None)].append(event)
            if not done or not samples:
                return None
            joined = [self._joined(samples[index]) for index in _indexes(samples)]
            if not all(_finished(sample) for sample in joined):
                return None
            return orjson.dumps(joined[0] if None in samples else joined)
        except (sse.BrokenStream, TypeError, ValueError, KeyError, AttributeError):
            # Not what this endpoint streams.
            return None

    def _joined(self, events: Sequence[Body]) -> Body:
        new = self.incremental or (len(events) > 1 and _is_incremental(events))
        return _joined(events) if new else events[-1]

    def complete(self, answer: bytes) -> bool:
        samples = _samples(answer)
        return (
            bool(samples)
            and all(isinstance(sample, dict) for sample in samples)
            and all(sample.get("error") is None and _finished(sample) for sample in samples)
            and answers.writable(samples)
        )

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


def _with_id(sample: Body, rid: str) -> Body:
    return {**sample, "meta_info": {**sample["meta_info"], "id": rid}}


def _samples(answer: bytes) -> list[Any]:
    value = answers.loaded(answer)
    if isinstance(value, list):
        return value
    return [] if value is None else [value]


def _finished(sample: Body) -> bool:
    meta = sample.get("meta_info")
    reason = meta.get("finish_reason") if isinstance(meta, dict) else None
    return isinstance(reason, dict) and reason.get("type") not in UNFINISHED


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


def _indexes(samples: Mapping[int | None, Any]) -> list[int | None]:
    """Return the samples' numbers in order. Raises ValueError where one is missing."""
    if set(samples) not in ({None}, set(range(len(samples)))):
        raise ValueError("samples are missing")
    return sorted(samples, key=lambda index: index or 0)


def _joined(events: Sequence[Body]) -> Body:
    """Return the final object of a sample whose events hold what is new."""
    last = events[-1]
    meta = dict(last["meta_info"])
    for name in GROWING:
        if name in meta:
            meta[name] = [each for event in events for each in event["meta_info"].get(name) or ()]
    ids = [each for event in events for each in event.get("output_ids") or ()]
    joined = {**last, "output_ids": ids, "meta_info": meta}
    if "text" in last:
        joined["text"] = "".join(text_of(event["text"]) for event in events)
    return joined


def _is_incremental(events: Sequence[Body]) -> bool:
    """Tell whether events hold what is new; none of them says so."""
    lengths = [len(event.get("output_ids") or ()) for event in events]
    tokens = events[-1]["meta_info"].get("completion_tokens")
    if tokens in (lengths[-1], sum(lengths)):
        return tokens != lengths[-1]
    first, last = (text_of(event.get("text")) for event in (events[0], events[-1]))
    return not (lengths == sorted(lengths) and last.startswith(first))
