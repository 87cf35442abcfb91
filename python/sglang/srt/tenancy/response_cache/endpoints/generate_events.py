"""The events of one sample of /generate: all so far in each, or what is new."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Any

import orjson

from sglang.srt.tenancy.response_cache.endpoints import sse
from sglang.srt.tenancy.response_cache.endpoints.endpoint import Body, Split
from sglang.srt.tenancy.response_cache.endpoints.pieces import Piece, at_tokens, joined, shared

# Lists in meta_info with an entry for each token.
GROWING = (
    "output_token_logprobs",
    "output_top_logprobs",
    "output_token_ids_logprobs",
    "output_token_sampling_mask",
    "output_token_sampling_logprobs",
)
# How many entries there are so far.
_LENGTHS = ("output_token_logprobs_length", "output_token_sampling_mask_length")
# In meta_info: what only the last event can say.
_AT_THE_END = (
    *("e2e_latency", "response_sent_to_client_ts"),
    *("hidden_states", "routed_experts", "indexer_topk"),
)


class _Text:
    """A text, cut, as JSON: each part is encoded once, however often it is shown."""

    def __init__(self, parts: Sequence[str]) -> None:
        encoded = [orjson.dumps(part)[1:-1] for part in parts]
        self._all = b"".join(encoded)
        self._ends = [0, *accumulate(len(part) for part in encoded)]

    def shown(self, begin: int, end: int) -> bytes:
        return b'"' + self._all[self._ends[begin] : self._ends[end]] + b'"'


class _List:
    """A list as JSON, any part of which can be shown; as many steps as there are tokens."""

    def __init__(self, values: Sequence[Any], tokens: int) -> None:
        encoded = [orjson.dumps(value) + b"," for value in values]
        self._all = b"".join(encoded)
        ends = [0, *accumulate(len(part) for part in encoded)]
        count = len(values)
        self._ends = [ends[token * count // tokens] if tokens else 0 for token in range(tokens + 1)]

    def shown(self, begin: int, end: int) -> bytes:
        return b"[" + self._all[self._ends[begin] : self._ends[end]][:-1] + b"]"


def events_of(sample: Body, split: Split, incremental: bool) -> Iterator[bytes]:
    """Stream a sample; the last event is what the others lead to."""
    pieces = _pieces(sample, split)
    ends = [0, *accumulate(piece.tokens for piece in pieces)]
    last = len(pieces) - 1
    if last > 0:
        yield from _growing(sample, pieces, ends, incremental)
    if not incremental or last <= 0:
        yield sse.written(sample)
        return
    meta = dict(sample["meta_info"])
    for name in GROWING:
        if isinstance(meta.get(name), list):
            meta[name] = _tail(meta[name], ends[last], ends[-1])
    ids = _tail(sample.get("output_ids") or [], ends[last], ends[-1])
    shown = {**sample, "output_ids": ids, "meta_info": meta}
    yield sse.written(shown | ({"text": pieces[last].text} if "text" in sample else {}))


def _growing(
    sample: Body, pieces: Sequence[Piece], ends: Sequence[int], incremental: bool
) -> Iterator[bytes]:
    """Stream all but the last event."""
    tokens = ends[-1]
    shown, meta = dict(sample), dict(sample["meta_info"])
    meta = {name: value for name, value in meta.items() if name not in _AT_THE_END}
    meta["finish_reason"] = None
    lists = {
        name: _List(meta[name], tokens) for name in GROWING if isinstance(meta.get(name), list)
    }
    counts = [name for name in ("completion_tokens", *_LENGTHS) if name in meta]
    meta |= dict.fromkeys((*lists, *counts), sse.HOLE)
    shown |= {name: sse.HOLE for name in ("text", "output_ids") if name in sample}
    shown["meta_info"] = meta
    frame = sse.Frame(shown)
    text = _Text([piece.text for piece in pieces])
    ids = _List(sample.get("output_ids") or [], tokens)
    holes = [name for name in shown if name in ("text", "output_ids", "meta_info")]
    inner = [name for name in meta if name in lists or name in counts]
    for number in range(len(pieces) - 1):
        begin, end = (ends[number] if incremental else 0), ends[number + 1]
        written = {
            "text": text.shown(number if incremental else 0, number + 1),
            "output_ids": ids.shown(begin, end),
            **{name: values.shown(begin, end) for name, values in lists.items()},
            **dict.fromkeys(counts, b"%d" % end),
        }
        order = (name for hole in holes for name in (inner if hole == "meta_info" else [hole]))
        yield frame.filled(*(written[name] for name in order))


def _tail(values: list[Any], begin: int, tokens: int) -> list[Any]:
    return values[begin * len(values) // tokens :] if tokens else values


def _pieces(sample: Body, split: Split) -> list[Piece]:
    """Cut a sample's text into those of its events."""
    ids = sample.get("output_ids") or []
    text = sample.get("text")
    if not isinstance(text, str):
        return [Piece("", 1) for _ in ids]
    entries = sample["meta_info"].get("output_token_logprobs") or []
    tokens = [entry[2] for entry in entries if len(entry) > 2 and isinstance(entry[2], str)]
    found = at_tokens(text, tokens) if tokens and len(tokens) == len(ids) else None
    if found is None:
        texts = [*split(text)] if text else []
        if sample["meta_info"]["finish_reason"]["type"] == "stop" and 0 < len(texts) < len(ids):
            # What ends an answer comes last, and is not shown.
            texts.append("")
        # No event comes without a token.
        texts = joined(texts, min(len(texts), len(ids) or len(texts)))
        return shared(texts, len(ids) or len(texts))
    pieces, used = found
    return [*pieces, Piece("", len(tokens) - used)] if used < len(tokens) else pieces
