"""What users do to one server: nine scenarios, as large as ``Scale`` says.

Rates are multiples of ``scale.capacity``. Every user has beginnings of their own (system
prompts, documents), half as long as a usual prompt, so that locality is worth something.
Tokens are 512 to 16,383: any model knows them, and they are no special ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import chain

import numpy as np

from fair_service.record import Ask, Scale, Scenario

FIRST_TOKEN, LAST_TOKEN = 512, 16_383
JITTER = 0.25  # lengths of prompts and answers vary by this, either way
Times = Iterable[float]


class Writer:
    """Writes the requests of one scenario; the same seed writes the same ones."""

    def __init__(self, scale: Scale, seed: int):
        self.scale = scale
        self._random = np.random.default_rng(seed)

    def steady(self, rate: float, start: float = 0.0, end: float = 1.0) -> list[float]:
        """Evenly spaced arrivals. ``start``, ``end``: parts of the scenario's time."""
        first, last = start * self.scale.seconds, end * self.scale.seconds
        distance = 1 / (rate * self.scale.capacity)
        return [
            float(t) for t in np.arange(first + distance * self._random.random(), last, distance)
        ]

    def poisson(self, rate: float, start: float = 0.0, end: float = 1.0) -> list[float]:
        first, last = start * self.scale.seconds, end * self.scale.seconds
        count = self._random.poisson((last - first) * rate * self.scale.capacity)
        return sorted(float(t) for t in self._random.uniform(first, last, max(1, count)))

    def on_off(self, rate: float, periods: int = 5) -> list[float]:
        """Poisson for the first half of each period, nothing for the second."""
        parts = [(n / periods, (n + 0.5) / periods) for n in range(periods)]
        return [t for start, end in parts for t in self.poisson(rate, start, end)]

    def asks(
        self,
        user: str,
        times: Times,
        *,
        prompt: float = 1.0,
        answer: float = 1.0,
        beginnings: int = 3,
    ) -> list[Ask]:
        """``prompt``, ``answer``: in usual ones. ``beginnings``: how many the user has; 0 is
        none, every prompt is new from its first token."""
        usual = max(2, round(prompt * self.scale.prompt))
        known = [self.tokens(usual // 2) for _ in range(beginnings)]
        written = []
        for at in times:
            start = known[self._random.integers(beginnings)] if beginnings else []
            rest = max(1, self._length(usual) - len(start))
            length = max(1, self._length(answer * self.scale.answer))
            written.append(Ask(at, user, start + self.tokens(rest), length))
        return written

    def _length(self, usual: float) -> int:
        return round(usual * self._random.uniform(1 - JITTER, 1 + JITTER))

    def tokens(self, count: int) -> list[int]:
        drawn: list[int] = self._random.integers(FIRST_TOKEN, LAST_TOKEN + 1, count).tolist()
        return drawn


def in_order(*parts: Iterable[Ask]) -> tuple[Ask, ...]:
    return tuple(sorted(chain(*parts), key=lambda ask: (ask.at, ask.user)))


def overload(scale: Scale, seed: int = 0) -> Scenario:
    write = Writer(scale, seed)
    return Scenario(
        "overload",
        "two users, one asks for twice what the server can do",
        in_order(write.asks("light", write.poisson(0.25)), write.asks("heavy", write.steady(2.0))),
        victim="light",
        backlogged=frozenset({"heavy"}),
    )


def bursts(scale: Scale, seed: int = 0) -> Scenario:
    write = Writer(scale, seed)
    return Scenario(
        "bursts",
        "one user comes in bursts below their share, one asks for too much all the time",
        in_order(write.asks("bursty", write.on_off(0.35)), write.asks("heavy", write.steady(1.5))),
        victim="bursty",
        backlogged=frozenset({"heavy"}),
    )


def poisson(scale: Scale, seed: int = 0) -> Scenario:
    write = Writer(scale, seed)
    rates = {"slow": 0.15, "middle": 0.8, "fast": 1.6}
    return Scenario(
        "poisson",
        "three users at different rates, of whom two ask for more than their share",
        in_order(*(write.asks(user, write.poisson(rate)) for user, rate in rates.items())),
        victim="slow",
        backlogged=frozenset({"middle", "fast"}),
    )


def noisy_neighbour(scale: Scale, seed: int = 0) -> Scenario:
    """Both together keep the server busy for half of the time, and the victim's documents fit in
    its share of the memory: what the neighbour can take away is turns."""
    return _scan("noisy neighbour", "together half of what the server can do", 0.08, 4, scale, seed)


def noisy_flood(scale: Scale, seed: int = 0) -> Scenario:
    """The neighbour asks for twice what the server can do, the victim for half of their share."""
    flood = _scan("noisy flood", "far more than the server can do", 0.5, 8, scale, seed)
    return replace(flood, backlogged=frozenset({"noisy"}))


def _scan(
    name: str, how_much: str, rate: float, documents: int, scale: Scale, seed: int
) -> Scenario:
    """The victim has some documents and asks about each now and then."""
    write = Writer(scale, seed)
    return Scenario(
        name,
        f"one user scans the cache with unique long prompts, one reads documents; {how_much}",
        in_order(
            write.asks("victim", write.poisson(0.25), beginnings=documents),
            write.asks("noisy", write.steady(rate), prompt=4, answer=0.25, beginnings=0),
        ),
        victim="victim",
    )


def long_and_short(scale: Scale, seed: int = 0) -> Scenario:
    write = Writer(scale, seed)
    return Scenario(
        "long and short",
        "one user asks little at a time but often, one much at a time; both ask for too much",
        in_order(
            write.asks("short", write.poisson(4.0), prompt=0.25, answer=0.25),
            write.asks("long", write.poisson(1.5), prompt=2, answer=2),
        ),
        backlogged=frozenset({"short", "long"}),
    )


def zipf(scale: Scale, seed: int = 0) -> Scenario:
    """Rates fall as 1/rank; together twice the capacity, so the first few ask for too much."""
    write = Writer(scale, seed)
    ranks = range(1, 21)
    rates = {f"u{rank:02}": 2.0 / rank / sum(1 / r for r in ranks) for rank in ranks}
    return Scenario(
        "zipf",
        "20 users, most of whom ask for little",
        in_order(*(write.asks(user, write.poisson(rate)) for user, rate in rates.items())),
        victim="u20",
        backlogged=frozenset({"u01", "u02", "u03", "u04"}),
    )


def weights(scale: Scale, seed: int = 0) -> Scenario:
    write = Writer(scale, seed)
    weight = {"one": 1.0, "two": 2.0, "four": 4.0}
    return Scenario(
        "weights",
        "three users who ask for too much, with weights 1, 2 and 4",
        in_order(*(write.asks(user, write.poisson(1.0)) for user in weight)),
        weights=weight,
        backlogged=frozenset(weight),
    )


def back_from_idle(scale: Scale, seed: int = 0) -> Scenario:
    """Let a third user come back: time away must earn no turns, or the others starve."""
    write = Writer(scale, seed)
    early, late = write.poisson(0.3, 0.0, 0.1), write.poisson(2.0, 0.6, 1.0)
    return Scenario(
        "back from idle",
        "one user comes back after half of the time, with far too much at once",
        in_order(
            write.asks("light", write.poisson(0.15)),
            write.asks("heavy", write.steady(1.3)),
            write.asks("returning", early + late),
        ),
        victim="light",
        backlogged=frozenset({"heavy"}),
    )


SCENARIOS: dict[str, Callable[[Scale, int], Scenario]] = {
    "overload": overload,
    "bursts": bursts,
    "poisson": poisson,
    "noisy neighbour": noisy_neighbour,
    "noisy flood": noisy_flood,
    "long and short": long_and_short,
    "zipf": zipf,
    "weights": weights,
    "back from idle": back_from_idle,
}
