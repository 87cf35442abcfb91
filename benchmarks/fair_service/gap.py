"""The largest difference in service between two users who both wait."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence, Set
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
    """The same of the modelled device, exact: told after every step, by what it charged.

    ``worst``: of all pairs so far. For tens of users: pairs are many.
    """

    def __init__(self, weights: Mapping[str, float] | None = None):
        self.weights = weights or {}
        self.worst = 0.0
        self._numbers: dict[str, int] = {}
        self._before = np.zeros(0, bool)  # who waited after the last step
        self._low = np.zeros((0, 0))  # of each pair, since both have waited
        self._high = np.zeros((0, 0))

    def __call__(self, service: Mapping[str, float], waiting: Set[str]) -> None:
        if len(waiting) < 2 and not self._before.any():
            return
        for user in sorted(waiting - self._numbers.keys()):
            self._enter(user)
        waits, had = np.zeros(len(self._numbers), bool), np.zeros(len(self._numbers))
        for user in waiting:
            number = self._numbers[user]
            waits[number] = True
            had[number] = service.get(user, 0.0) / self.weights.get(user, 1.0)
        ahead = had[:, None] - had
        new = ~(self._before[:, None] & self._before)
        self._low = np.where(new, ahead, np.minimum(self._low, ahead))
        self._high = np.where(new, ahead, np.maximum(self._high, ahead))
        both = waits[:, None] & waits
        self.worst = max(self.worst, float(((self._high - self._low) * both).max()))
        self._before = waits

    def _enter(self, user: str) -> None:
        self._numbers[user] = len(self._numbers)
        self._before = np.pad(self._before, (0, 1))
        self._low, self._high = np.pad(self._low, (0, 1)), np.pad(self._high, (0, 1))
