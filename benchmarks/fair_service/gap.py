"""The largest difference in service between two users who both wait."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np

from fair_service.record import Served
from fair_service.service import Floats, Prices, service_at

COMPARED = 64  # users, of those who asked most: pairs are many


def largest_gap(
    users: Mapping[str, Sequence[Served]], prices: Prices, weights: Mapping[str, float]
) -> float:
    """The most that one user's service, by weight, ran ahead of another's while both had
    requests that waited for their first token. Over every such time, for every pair.

    Service is spread over the time of an answer, so this is what a client sees, not what the
    server charged: ``Gaps`` knows that.
    """
    busiest = sorted(users, key=lambda user: (-len(users[user]), user))[:COMPARED]
    times = _moments([one for user in busiest for one in users[user]])
    curves = {u: service_at(users[u], prices, times) / weights.get(u, 1.0) for u in busiest}
    waits = {user: _waits(users[user], times) for user in busiest}
    return max(
        (
            _ahead(curves[one] - curves[other], waits[one] & waits[other])
            for one, other in combinations(busiest, 2)
        ),
        default=0.0,
    )


def _moments(requests: Sequence[Served]) -> Floats:
    """Whenever the rate of somebody's service, or who waits, changes."""
    moments = {m for r in requests for m in (r.ask.at, r.first_token, r.finished) if m >= 0}
    return np.array(sorted(moments))


def _waits(requests: Sequence[Served], times: Floats) -> np.ndarray[tuple[int], np.dtype[np.bool]]:
    """Whether the user waits between each moment and the next."""
    change = np.zeros(len(times) + 1, int)
    for one in requests:
        end = one.first_token if one.first_token >= 0 else math.inf
        change[np.searchsorted(times, one.ask.at)] += 1
        change[np.searchsorted(times, end)] -= 1
    return np.cumsum(change)[: len(times) - 1] > 0


def _ahead(difference: Floats, both: np.ndarray[tuple[int], np.dtype[np.bool]]) -> float:
    """The widest range of ``difference`` within one stretch of ``both``."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], both, [False]]).astype(int)))
    widest = 0.0
    for start, end in zip(edges[::2], edges[1::2], strict=True):
        stretch = difference[start : end + 1]
        widest = max(widest, float(stretch.max() - stretch.min()))
    return widest


class Gaps:
    """The same of the modelled device, exact: told after every step, by what it charged."""

    def __init__(self, weights: Mapping[str, float] | None = None):
        self.weights = weights or {}
        self.worst = 0.0
        self._ranges: dict[tuple[str, str], tuple[float, float]] = {}

    def __call__(self, service: Mapping[str, float], waiting: set[str]) -> None:
        if len(waiting) < 2:
            self._ranges = {}
            return
        had = {u: service.get(u, 0.0) / self.weights.get(u, 1.0) for u in sorted(waiting)}
        ranges: dict[tuple[str, str], tuple[float, float]] = {}
        for pair in combinations(had, 2):
            ahead = had[pair[0]] - had[pair[1]]
            low, high = self._ranges.get(pair, (ahead, ahead))
            ranges[pair] = (min(low, ahead), max(high, ahead))
            self.worst = max(self.worst, ranges[pair][1] - ranges[pair][0])
        self._ranges = ranges
