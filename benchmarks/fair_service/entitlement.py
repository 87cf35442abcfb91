"""Who was served as much as max-min fairness owes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from fair_service.record import Served
from fair_service.service import Prices, asked_by, last_arrival, service_at

SLOTS = 60  # of time, for what users are entitled to
Users = Mapping[str, Sequence[Served]]


def water_filling(
    asked: Mapping[str, float], weights: Mapping[str, float], total: float
) -> dict[str, float]:
    """Max-min entitlement: ``total`` by weight, but nobody gets more than they asked for; what
    they leave goes to the others, by weight again."""
    entitled: dict[str, float] = {}
    weight = sum(weights.get(user, 1.0) for user in asked)
    for user in sorted(asked, key=lambda user: asked[user] / weights.get(user, 1.0)):
        own = weights.get(user, 1.0)
        entitled[user] = min(asked[user], total * own / weight)
        total, weight = total - entitled[user], weight - own
    return entitled


def entitlement(
    users: Users, prices: Prices, weights: Mapping[str, float], end: float
) -> dict[str, float]:
    """What max-min fairness owes each user up to ``end``: water-filling in each slot of time.

    What the server served in a slot is divided among what was asked up to then and not yet
    owed. So time away earns nothing, and who comes late is owed nothing for before.
    """
    edges = np.linspace(0.0, end, SLOTS + 1)
    supply = np.diff(sum(service_at(r, prices, edges) for r in users.values()))
    asked = {u: np.diff(asked_by(r, prices, edges), prepend=0.0) for u, r in users.items()}
    owed, left, spare = dict.fromkeys(users, 0.0), dict.fromkeys(users, 0.0), 0.0
    for slot in range(SLOTS):
        for user in users:
            left[user] += float(asked[user][slot + 1]) + float(asked[user][0]) * (slot == 0)
        spare += float(supply[slot])
        for user, part in water_filling(left, weights, spare).items():
            owed[user] += part
            left[user] -= part
            spare -= part
    return owed


def shares(
    users: Users, prices: Prices, weights: Mapping[str, float]
) -> dict[str, dict[str, float]]:
    """Asked, served and entitled service of each user, from the start to the last arrival.

    ``share``: served / entitled; 1 is all that max-min fairness owes the user.
    """
    end = max(last_arrival(requests) for requests in users.values())
    owed = entitlement(users, prices, weights, end)
    found = {}
    for user, requests in users.items():
        had = float(service_at(requests, prices, [end])[0])
        found[user] = {
            "asked": float(asked_by(requests, prices, [end])[0]),
            "served": had,
            "entitled": owed[user],
            "share": had / owed[user] if owed[user] > 0 else 1.0,
        }
    return found


def jain(values: Sequence[float]) -> float:
    """Jain's index, (sum x)^2 / (n sum x^2): 1 when all are equal, 1/n when one has it all."""
    x = np.asarray(values, float)
    squares = len(x) * float(np.square(x).sum())
    return float(x.sum()) ** 2 / squares if squares else 1.0


def jains(users: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """Jain's index of what users were served; of that / what they asked for (best when all
    wait alike, so it likes FCFS); of that / what they were entitled to."""
    rows = [row for row in users.values() if row["entitled"] > 0]
    return {
        "served": jain([row["served"] for row in rows]),
        "by_asked": jain([row["served"] / row["asked"] for row in rows]),
        "by_entitled": jain([row["share"] for row in rows]),
    }
