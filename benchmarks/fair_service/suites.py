"""The suites of VTC's paper, as its code has them (github.com/Ying1123/VTC-artifact).

Rates are requests per second on an A10G with a 7B model. No two prompts share a token, since
its server had no prefix cache.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from fair_service.record import Ask, Scenario
from fair_service.scenarios import in_order

MINUTE = 60.0
USUAL = 256  # tokens of a prompt and of an answer
SEED = 42


class Player:
    """Writes requests. ``shrink``: of all times; the rates stay, so fewer requests come."""

    def __init__(self, shrink: float):
        self.minute = MINUTE * shrink
        self._random = np.random.default_rng(SEED)

    def even(
        self, user: str, rate: float, start: float, end: float, *, on_off: bool = False
    ) -> list[Ask]:
        """Evenly spaced, from minute to minute; ``on_off``: in every other one."""
        first, last = start * self.minute, end * self.minute
        times = np.arange(first + self._random.random() / rate, last, 1 / rate)
        return [
            self.ask(float(at), user)
            for at in times
            if not (on_off and int(at - first) // int(self.minute) % 2)
        ]

    def poisson(self, user: str, rate: float, end: float, tokens: int) -> list[Ask]:
        last = end * self.minute
        times = self._random.uniform(0, last, self._random.poisson(last * rate))
        return [self.ask(float(at), user, tokens) for at in sorted(times)]

    def ask(self, at: float, user: str, tokens: int = USUAL) -> Ask:
        return Ask(at, user, self._random.integers(1 << 40, size=tokens).tolist(), tokens)


def overload(play: Player) -> Iterable[list[Ask]]:
    return [play.even("c0", 1.5, 0, 6), play.even("c1", 3, 0, 6)]


def overload_multi(play: Player) -> Iterable[list[Ask]]:
    rates = [0.4] * 3 + [0.6] * 5
    return [play.even(f"c{n}", rate, 0, 6) for n, rate in enumerate(rates)]


def proportional(play: Player) -> Iterable[list[Ask]]:
    return [play.even(f"c{n}", rate, 0, 10) for n, rate in enumerate([0.25, 0.5, 1.5])]


def on_off_less(play: Player) -> Iterable[list[Ask]]:
    return [play.even("c0", 0.5, 0, 10, on_off=True), play.even("c1", 2, 0, 10)]


def on_off_overload(play: Player) -> Iterable[list[Ask]]:
    return [play.even("c0", 2, 0, 10, on_off=True), play.even("c1", 3, 0, 10)]


def poisson_short_long(play: Player) -> Iterable[list[Ask]]:
    return [play.poisson("c0", 8, 10, USUAL // 4), play.poisson("c1", 1.5, 10, USUAL)]


def dist_shift(play: Player) -> Iterable[list[Ask]]:
    return [
        play.even("c0", 0.5, 0, 5, on_off=True) + play.even("c1", 2, 0, 5),
        play.even("c0", 1, 5, 10) + play.even("c1", 1, 5, 10),
        play.even("c0", 0.5, 10, 15) + play.even("c1", 1.5, 10, 15),
    ]


def weighted(play: Player) -> Iterable[list[Ask]]:
    return [play.even(f"c{n}", 1.5, 0, 6) for n in range(4)]


WRITTEN: dict[str, tuple[Callable[[Player], Iterable[list[Ask]]], set[str]]] = {
    # name: (how it is written, who always has more requests waiting than are served)
    "overload": (overload, {"c0", "c1"}),
    "overload-multi": (overload_multi, {f"c{n}" for n in range(8)}),
    "proportional": (proportional, {"c2"}),
    "on_off_less": (on_off_less, {"c1"}),
    "on_off_overload": (on_off_overload, {"c0", "c1"}),
    "poisson_short_long": (poisson_short_long, {"c0", "c1"}),
    "dist_shift": (dist_shift, {"c1"}),
    "weighted": (weighted, {"c0", "c1", "c2", "c3"}),
}
WEIGHTS = {"weighted": {f"c{n}": n + 1.0 for n in range(4)}}
VICTIMS = {"proportional": "c0", "on_off_less": "c0", "dist_shift": "c0"}


def suite(name: str, shrink: float = 1.0) -> Scenario:
    write, backlogged = WRITTEN[name]
    return Scenario(
        name,
        "suite of VTC's paper",
        in_order(*write(Player(shrink))),
        weights=WEIGHTS.get(name, {}),
        victim=VICTIMS.get(name),
        backlogged=frozenset(backlogged),
    )
