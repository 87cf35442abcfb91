"""Service: what a request is worth in tokens by price, and how much of it a user had by when."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fair_service.record import Served

Floats = NDArray[np.float64]
INSTANT = 1e-6  # seconds; the least time that an answer takes


@dataclass(frozen=True)
class Prices:
    """Service per token, as ``--tenant-input-weight`` and its fellows set it."""

    computed: float = 1.0
    cached: float = 0.1
    output: float = 2.0

    def asked(self, one: Served) -> float:
        """Of the whole request, also where it was never served: then as if nothing was cached."""
        prompt = len(one.ask.prompt) - one.cached
        answer = one.produced if one.finished >= 0 else one.ask.answer
        return prompt * self.computed + one.cached * self.cached + answer * self.output

    def had(self, one: Served) -> float:
        """Of what it got in the end."""
        if one.first_token < 0:
            return 0.0
        prompt = len(one.ask.prompt) - one.cached
        return prompt * self.computed + one.cached * self.cached + one.produced * self.output


def by_user(served: Iterable[Served]) -> dict[str, list[Served]]:
    """Users in the order of their names."""
    users: dict[str, list[Served]] = defaultdict(list)
    for one in served:
        users[one.ask.user].append(one)
    return dict(sorted(users.items()))


def last_arrival(served: Sequence[Served]) -> float:
    """Seconds. Up to then an overloaded server has more to do than it can."""
    return max(one.ask.at for one in served)


def last_finish(served: Sequence[Served]) -> float:
    return max(max(one.finished, one.first_token, one.ask.at) for one in served)


def service_at(requests: Sequence[Served], prices: Prices, times: Any) -> Floats:
    """One user's service up to each of ``times`` (seconds).

    A request's service is spread evenly from its first token to its last, as in the code of
    VTC's paper (github.com/Ying1123/VTC-artifact): all that a client can see.
    """
    begun = [one for one in requests if one.first_token >= 0]
    if not begun:
        return np.zeros(len(times))
    starts = np.array([one.first_token for one in begun])
    ends = np.maximum([one.finished for one in begun], starts + INSTANT)
    rates = np.array([prices.had(one) for one in begun]) / (ends - starts)
    turns = np.concatenate([starts, ends])
    order = np.argsort(turns, kind="stable")
    turns, slopes = turns[order], np.cumsum(np.concatenate([rates, -rates])[order])
    total = np.concatenate([[0.0], np.cumsum(slopes[:-1] * np.diff(turns))])
    return np.interp(times, turns, total)


def asked_by(requests: Sequence[Served], prices: Prices, times: Any) -> Floats:
    """Service of the requests that had come by each of ``times``."""
    at = np.array([one.ask.at for one in requests])
    order = np.argsort(at)
    total = np.concatenate([[0.0], np.cumsum([prices.asked(requests[i]) for i in order])])
    return total[np.searchsorted(at[order], times, "right")]
