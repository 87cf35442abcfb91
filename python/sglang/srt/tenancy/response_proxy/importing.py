"""Take over what another response cache kept: a file of JSON Lines that names no users."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sglang.srt.tenancy.response_cache.cacheable_request import BUCKET, MOST_SAMPLES, Rules
from sglang.srt.tenancy.response_cache.endpoints.endpoint import Endpoint
from sglang.srt.tenancy.response_cache.entry import Entry
from sglang.srt.tenancy.response_cache.jsonl_import import Imported, read
from sglang.srt.tenancy.response_cache.store import ResponseStore

# Whatever the temperature: the other cache kept it.
_ASKED_FOR = [(b"cache-control", b"max-age=0")]


@dataclass
class Taken:
    """``requests``: whose answers are kept now. ``left_out``: lines of the file, by reason."""

    requests: int = 0
    left_out: Counter[str] = field(default_factory=Counter)


async def take_over(
    path: Path,
    store: ResponseStore,
    rules: Rules,
    endpoints: Mapping[str, Endpoint],
    owner: str,
) -> Taken:
    """Keep what a file holds as one owner's. Raises OSError where it cannot be read."""
    taken = Taken()
    for imported in read(path, taken.left_out):
        if await _keep(imported, store, rules, endpoints[imported.endpoint], owner):
            taken.requests += 1
        else:
            taken.left_out["not what this cache keeps"] += 1
    return taken


async def _keep(
    imported: Imported, store: ResponseStore, rules: Rules, endpoint: Endpoint, owner: str
) -> bool:
    """Keep all answers as a bucket's samples, and as many as were asked for as the request's."""
    answers = [answer for answer in imported.answers if endpoint.complete(answer)]
    held = sum(map(endpoint.held, answers))
    number = endpoint.samples(imported.request)
    if not held or number is None:
        return False
    bucket = min(held, MOST_SAMPLES)
    kept = False
    requests: list[tuple[int, Mapping[str, Any]]] = [(bucket, {**imported.request, BUCKET: bucket})]
    if number <= held:
        requests.append((number, imported.request))
    for count, body in requests:
        asked = rules.asked(endpoint, owner, _ASKED_FOR, body)
        if asked is None:
            continue
        ticket = (await store.get(asked.key)).ticket
        entry = Entry(time.time(), 0.0, (endpoint.picked(answers, range(count)),))
        kept |= await store.put(asked.key, entry, ticket)
    return kept
