"""Draw how many votes make a prefix public: a random number, so that no single vote decides.

The optimal rule of Desfontaines, Voss, Gipson and Mandayam ("Differentially private partition
selection", 2022), written as a threshold: the chance of each number of votes is at most
``e^epsilon`` times that of its neighbours, and the first and last have at most ``delta``.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from itertools import accumulate


class VoteThreshold:
    """``epsilon``, ``delta``: what one vote may change. ``least``: the smallest threshold.

    ``most``: the largest; so many votes are always enough.
    """

    def __init__(self, epsilon: float, delta: float, least: int):
        half = _half(epsilon, delta)
        rising = [math.exp(epsilon * step) for step in range(half)]
        weights = [*rising, *reversed(rising)]
        total = math.fsum(weights)
        self.least, self.most = least, least + 2 * half - 1
        self._chances = [weight / total for weight in weights]
        self._up_to = list(accumulate(self._chances))

    def at(self, fraction: float) -> int:
        """Return the threshold at a fraction in [0, 1) of all draws, the smallest first."""
        step = bisect_left(self._up_to, fraction, hi=len(self._up_to) - 1)
        return self.least + step

    def chance(self, votes: int) -> float:
        """Return the chance that so many votes are enough."""
        if votes < self.least:
            return 0.0
        return 1.0 if votes >= self.most else self._up_to[votes - self.least]

    @property
    def median(self) -> float:
        """Return the number of votes that are enough every second time."""
        return (self.least + self.most) / 2

    @property
    def sharpest(self) -> float:
        """Return by how much one vote changes the chance at most: what one attack can gain."""
        return max(self._chances)


def _half(epsilon: float, delta: float) -> int:
    """Count the steps in which chances grow from at most ``delta`` to the largest."""
    return max(1, math.ceil(math.log1p(math.expm1(epsilon) / (2 * delta)) / epsilon))


def advantage_bound(epsilon: float, delta: float) -> float:
    """Return what no test of an (epsilon, delta)-private transcript exceeds: right answers where
    there is something, less wrong ones where there is nothing."""
    # Both are divided by e^epsilon, which may be too large for a number.
    shrunk = math.exp(-epsilon)
    return min(1.0, (1 + (2 * delta - 1) * shrunk) / (1 + shrunk))
