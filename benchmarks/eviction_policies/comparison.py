"""What each policy finds of what is asked for again, for all and for the worst-off user."""

from __future__ import annotations

import tempfile
from collections import Counter
from itertools import islice
from pathlib import Path
from typing import Any

from support.trees import start_group

from eviction_policies.cache_of_policy import PolicyCache
from eviction_policies.mixes import MIXES, Writer
from eviction_policies.policies import POLICIES, UPSTREAM

_group: list[tempfile.TemporaryDirectory[str]] = []


def start() -> None:
    """Once in each process."""
    if not _group:
        _group.append(tempfile.TemporaryDirectory())
        start_group(Path(_group[0].name))


def play(name: str, policy: str, requests: int) -> dict[str, Any]:
    """``found``, ``device``: tokens found on both tiers, and on the device. ``worst``: the
    smallest part that a user found of what they had asked for before; ``kinds``: the same of
    users of one kind together. Users who never asked again do not count."""
    start()
    mix = next(mix for mix in MIXES if mix.name == name)
    cache = PolicyCache(upstream=policy == UPSTREAM, order=POLICIES[policy], weights=mix.weights)
    found: Counter[str] = Counter()
    known: Counter[str] = Counter()
    kinds: dict[str, str] = {}
    seen: dict[str, set[int]] = {}
    device = 0
    for ask in islice(mix.asks(Writer()), requests):
        hit = cache.ask(ask.user, ask.prompt)
        device += hit.device
        before = seen.setdefault(ask.user, set())
        kinds[ask.user] = ask.kind
        found[ask.user] += hit.device + hit.host
        known[ask.user] += sum(token in before for token in ask.prompt[:-1])
        before.update(ask.prompt)
    if policy != UPSTREAM:
        cache.cache.sanity_check()
    parts = {user: found[user] / known[user] for user in known if known[user]}
    by_kind = {
        kind: _part(found, known, [user for user in parts if kinds[user] == kind])
        for kind in sorted({kinds[user] for user in parts})
    }
    return {
        "mix": mix.name,
        "policy": policy,
        "found": sum(found.values()),
        "device": device,
        "known": sum(known.values()),
        "worst": min(parts.values(), default=None),
        "worst_kind": min(by_kind.values(), default=None),
        "kinds": by_kind,
    }


def _part(found: Counter[str], known: Counter[str], users: list[str]) -> float:
    return sum(found[user] for user in users) / sum(known[user] for user in users)
