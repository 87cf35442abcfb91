"""What is measured of a scenario: each figure with its definition.

All of it comes from the records of the requests, so a client of a real server and the
modelled device are measured alike. Times are seconds, service is tokens by price.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fair_service.entitlement import Users, jains, shares
from fair_service.gap import largest_gap
from fair_service.record import Scenario, Served
from fair_service.service import (
    INSTANT,
    Floats,
    Prices,
    asked_by,
    by_user,
    last_arrival,
    last_finish,
    service_at,
)

SAMPLES = 20  # windows' middles; a window is two of their distances, 60 s of VTC's 600
SHOWN = 32  # more users than that are not listed one by one


@dataclass(frozen=True)
class Inside:
    """What only the server knows. ``gap``: exact, by service as it was charged.

    ``idle``: seconds in which nothing ran though somebody waited.
    """

    gap: float | None = None
    idle: float | None = None
    memory: int | None = None  # tokens that fit


def windowed_difference(
    users: Users, prices: Prices, weights: Mapping[str, float]
) -> dict[str, float]:
    """VTC's: in each window, the sum over users of min(most - s, |asked - s|) in service per
    second by weight; ``s``: served in it, ``most``: by anybody, ``asked``: by requests that
    came in it. Who asked for little is not counted as treated unfairly. 19 windows, each a
    tenth of the run; their maximum, mean and variance.
    """
    end = max(last_arrival(requests) for requests in users.values())
    middles = np.arange(1, SAMPLES) * end / SAMPLES
    width = 2 * end / SAMPLES
    low, high = middles - width / 2, middles + width / 2
    served, asked = [], []
    for user, requests in users.items():
        scale = width * weights.get(user, 1.0)
        both = service_at(requests, prices, np.concatenate([low, high]))
        served.append((both[len(low) :] - both[: len(low)]) / scale)
        came = asked_by(requests, prices, np.concatenate([low, high]))
        asked.append((came[len(low) :] - came[: len(low)]) / scale)
    return _spread(np.array(served), np.array(asked))


def _spread(served: Floats, asked: Floats) -> dict[str, float]:
    """Users x windows."""
    behind = np.minimum(served.max(axis=0) - served, np.abs(asked - served)).sum(axis=0)
    return {
        "max": float(behind.max()),
        "mean": float(behind.mean()),
        "variance": float(behind.var()),
    }


def first_token(requests: Sequence[Served]) -> dict[str, float | None]:
    """Seconds from asking to the first token: percentiles, each one that was observed.

    None: so many never got one.
    """
    if not requests:
        return dict.fromkeys(("p50", "p95", "p99"))
    waits = [r.first_token - r.ask.at if r.first_token >= 0 else math.inf for r in requests]
    found = np.percentile(waits, [50, 95, 99], method="higher")
    return {
        name: float(value) if math.isfinite(value) else None
        for name, value in zip(("p50", "p95", "p99"), found, strict=True)
    }


def slowdown(together: Sequence[Served], alone: Sequence[Served]) -> float | None:
    """Mean seconds from asking to the last token, over the same when nobody else is served."""
    taken = [
        float(np.mean([r.finished - r.ask.at if r.finished >= 0 else math.inf for r in requests]))
        for requests in (together, alone)
    ]
    return taken[0] / taken[1] if all(map(math.isfinite, taken)) else None


def hit_rate(requests: Sequence[Served]) -> float:
    """Tokens of prompts that were found in the cache, of all tokens of prompts; of requests that
    were finished, since no client hears of the others' cached tokens."""
    done = [r for r in requests if r.finished >= 0]
    return sum(r.cached for r in done) / max(1, sum(len(r.ask.prompt) for r in done))


def throughput(served: Sequence[Served]) -> float:
    """Tokens of prompts and answers per second, from the start until the last is finished."""
    tokens = sum(len(r.ask.prompt) + r.produced for r in served if r.finished >= 0)
    return tokens / max(INSTANT, last_finish(served))


def proven_bound(prices: Prices, longest_prompt: int, memory: int) -> float:
    """VTC's: what two users who both wait can differ by in service, at most.

    ``longest_prompt`` and ``memory``: tokens.
    """
    return 2 * max(prices.computed * longest_prompt, prices.output * memory)


def measure(
    scenario: Scenario,
    served: Sequence[Served],
    *,
    prices: Prices | None = None,
    alone: Mapping[str, Sequence[Served]] | None = None,
    inside: Inside | None = None,
) -> dict[str, Any]:
    """Every figure of one run. ``alone``: user -> the same requests with nobody else there."""
    prices, inside, alone = prices or Prices(), inside or Inside(), alone or {}
    users = by_user(served)
    each = shares(users, prices, scenario.weights)
    backlogged = [each[user]["share"] for user in scenario.backlogged]
    return {
        "smallest_share": min(row["share"] for row in each.values()),
        "smallest_share_backlogged": min(backlogged) if backlogged else None,
        "gap": _gap(scenario, users, prices, inside),
        "difference": windowed_difference(users, prices, scenario.weights),
        "jain": jains(each),
        "modest": first_token([r for r in served if r.ask.user not in scenario.backlogged]),
        "victim": _victim(scenario.victim, users, alone),
        "throughput": throughput(served),
        "hit_rate": hit_rate(served),
        "idle": None if inside.idle is None else inside.idle / last_finish(served),
        "users": _listed(users, each, alone),
    }


def _gap(
    scenario: Scenario, users: Users, prices: Prices, inside: Inside
) -> dict[str, float | None]:
    """The largest difference of two users who both waited, and VTC's bound for it.

    ``seen``: from the records. ``exact``: as charged, where the server said it.
    """
    longest = max(len(one.ask.prompt) for requests in users.values() for one in requests)
    return {
        "seen": largest_gap(users, prices, scenario.weights),
        "exact": inside.gap,
        "bound": None if inside.memory is None else proven_bound(prices, longest, inside.memory),
    }


def _victim(
    user: str | None, users: Users, alone: Mapping[str, Sequence[Served]]
) -> dict[str, Any] | None:
    """First tokens of the one who should not suffer, and how much later p99 is than alone."""
    if user is None:
        return None
    together = first_token(users[user])
    found: dict[str, Any] = {"user": user, **together, "hit_rate": hit_rate(users[user])}
    if user in alone:
        before = first_token(alone[user])
        found["alone"] = before
        if together["p99"] is not None and before["p99"]:
            found["p99_over_alone"] = together["p99"] / before["p99"]
    return found


def _listed(
    users: Users,
    each: Mapping[str, Mapping[str, float]],
    alone: Mapping[str, Sequence[Served]],
) -> dict[str, Any]:
    """User -> shares, first tokens, hit rate and slowdown; nothing where they are too many."""
    if len(users) > SHOWN:
        return {}
    return {
        user: {
            **each[user],
            "requests": len(requests),
            "first_token": first_token(requests),
            "hit_rate": hit_rate(requests),
            "slowdown": slowdown(requests, alone[user]) if user in alone else None,
        }
        for user, requests in users.items()
    }
