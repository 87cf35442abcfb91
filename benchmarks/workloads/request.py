"""One request of a workload."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate


@dataclass(frozen=True)
class Request:
    """``at``: seconds from the start. ``prompt``: token numbers. ``output``: tokens wanted."""

    at: float
    user: str
    prompt: Sequence[int]
    output: int


@dataclass(frozen=True)
class Size:
    """``requests`` of each pass, from ``users`` by a Zipf law with exponent ``zipf``, arriving
    as a Poisson process of ``rate`` per second. ``scale`` multiplies the tokens of prompts."""

    requests: int = 28
    users: int = 200
    rate: float = 6.0
    zipf: float = 1.0
    scale: float = 1.0
    output: int = 4

    def tokens(self, count: int) -> int:
        return max(1, round(count * self.scale))


PASSES = 3  # cold, warm, and all at once


class Zipf:
    """Draws the number of a user, or a document, of which the first are the most popular."""

    def __init__(self, count: int, exponent: float, random: random.Random) -> None:
        self._random = random
        self._range = range(count)
        self._sums = list(accumulate(1 / (rank + 1) ** exponent for rank in self._range))

    def draw(self) -> int:
        return self._random.choices(self._range, cum_weights=self._sums)[0]


def in_passes(requests: Sequence[Request]) -> list[list[Request]]:
    """One sequence cut into ``PASSES``, each starting at 0 seconds."""
    size = len(requests) // PASSES
    passes = []
    for number in range(PASSES):
        part = requests[number * size : (number + 1) * size]
        start = part[0].at
        passes.append([replace(request, at=request.at - start) for request in part])
    return passes
