"""What events of /generate are made of, put together: all so far in each, or what is new."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from sglang.srt.tenancy.response_cache.endpoints.choices import UNFINISHED
from sglang.srt.tenancy.response_cache.endpoints.endpoint import Body
from sglang.srt.tenancy.response_cache.endpoints.generate_events import GROWING
from sglang.srt.tenancy.response_cache.endpoints.pieces import text_of

# In what events hold, quotes are escaped: these are the fields themselves.
_IDS = b'"output_ids":['
_TOKENS = re.compile(rb'.*"completion_tokens":(\d+)', re.DOTALL)
_INDEX = re.compile(rb'"index":(\d+)\}\s*\Z')


def keep(kept: list[bytes], event: bytes) -> None:
    """Add an event; those of the same sample go where it holds all that they do.

    Nothing is parsed: a long answer's events are, together, as long as its square.
    """
    if kept and _holds_all(event):
        index = _index(event)
        kept[:] = [each for each in kept if _IDS not in each or _index(each) != index]
    kept.append(event)


def put_together(events: Sequence[Body]) -> Any:
    """Return the final object; None where a sample did not finish, or is missing."""
    samples: dict[int | None, list[Body]] = defaultdict(list)
    for event in events:
        samples[event.pop("index", None)].append(event)
    if set(samples) not in ({None}, set(range(len(samples)))):
        return None
    joined = [_joined(samples[index]) for index in sorted(samples, key=lambda index: index or 0)]
    if not joined or not all(finished(sample) for sample in joined):
        return None
    return joined[0] if None in samples else joined


def finished(sample: Mapping[str, Any]) -> bool:
    """Tell whether a sample ended by itself."""
    meta = sample.get("meta_info")
    reason = meta.get("finish_reason") if isinstance(meta, dict) else None
    return isinstance(reason, dict) and reason.get("type") not in UNFINISHED


def _holds_all(event: bytes) -> bool:
    """Tell whether an event has as many ids as there are tokens so far."""
    begin = event.find(_IDS)
    tokens = _TOKENS.match(event)
    if begin < 0 or tokens is None:
        return False
    begin += len(_IDS)
    end = event.find(b"]", begin)
    ids = event.count(b",", begin, end) + 1 if end > begin else 0
    return ids == int(tokens[1])


def _index(event: bytes) -> bytes | None:
    found = _INDEX.search(event, max(0, len(event) - 40))
    return found[1] if found else None


def _joined(events: Sequence[Body]) -> Body:
    """Return one sample's final object."""
    last = events[-1]
    if len(events) == 1 or not _is_incremental(events):
        return last
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
