"""One request of a workload."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise


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
    rate: float = 5.0
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


def in_passes(requests: Sequence[Request], passes: int = PASSES) -> list[list[Request]]:
    """One sequence cut into so many, each starting at 0 seconds."""
    ends = [number * len(requests) // passes for number in range(passes + 1)]
    parts = (requests[start:end] for start, end in pairwise(ends))
    return [[replace(each, at=each.at - part[0].at) for each in part] for part in parts]
