"""Schedulers that play the same rounds, each under its own policy, in turn."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from fair_service.device import Device
from fair_service.engine import Engine
from fair_service.record import Ask

from sglang.srt.managers.schedule_batch import Req

POLICIES = ("fcfs", "lpm", "dfs-weight", "vtc", "dlpm")
STEADY, IDLE = "requests come and go", "nothing fits"
SITUATIONS = (STEADY, IDLE)
# Memory is what is short, never the number of those who run: as on a busy server.
DEVICE = Device(memory=8_000, running=1_000, chunk=None)


def asks(users: int, seed: int) -> Iterator[Ask]:
    """Users in random order; two thirds of a user's prompts begin alike."""
    rng = random.Random(seed)
    beginnings = [_tokens(rng, 60) for _ in range(users)]
    while True:
        user = rng.randrange(users)
        start = beginnings[user] if rng.random() < 2 / 3 else []
        prompt = start + _tokens(rng, rng.randrange(40, 160))
        yield Ask(0.0, f"u{user}", prompt, rng.randrange(4, 40))


def _tokens(rng: random.Random, number: int) -> list[int]:
    return [rng.randrange(1 << 30) for _ in range(number)]


class Scheduler(Engine):
    """An engine with so many waiting, whose rounds are timed.

    A round is all that the scheduler does to choose a batch: bringing the policy up to date,
    matching and admitting requests, and taking them out of the queue.
    """

    def __init__(self, policy: str, waiting: int, users: int, seed: int = 1):
        super().__init__(policy, DEVICE, schedule_policy=policy)
        self._asks = asks(users, seed)
        self._wanted = waiting
        self.seconds = 0.0  # of the last round
        self.admitted = 0  # in it
        self.fill()

    def fill(self) -> None:
        while len(self.waiting_queue) < self._wanted:
            self.receive(next(self._asks))

    def _admit(self) -> list[Req]:
        started = time.perf_counter()
        batch = super()._admit()
        self.seconds = time.perf_counter() - started
        self.admitted = len(batch)
        return batch

    def steady_round(self) -> float:
        """The seconds of a round with newcomers that admits somebody."""
        self.fill()
        self.step()
        while not self.admitted:
            self.step()
        return self.seconds

    def idle_round(self) -> float:
        """The seconds of a round with nobody new, in which nobody can be admitted."""
        while True:
            self.running_batch.batch_is_full = False  # or it would not even look
            batch = self._admit()
            if not batch:
                return self.seconds
            self._prefill(batch)


@dataclass(frozen=True)
class Cost:
    """``us``: microseconds of a round, median. ``ratio``: of neighbouring rounds, to fcfs's;
    median, and its 95 % interval. ``admitted``: requests to a round, mean. ``rounds``: how many
    these are of."""

    us: float
    ratio: float
    low: float
    high: float
    admitted: float
    rounds: int


def costs(
    waiting: int, users: int, situation: str, policies: Sequence[str], rounds: int
) -> dict[str, Cost]:
    """All policies play so many rounds each, one after the other. The first is compared with.

    Garbage collection is the caller's to stop.
    """
    schedulers = {policy: Scheduler(policy, waiting, users) for policy in policies}
    spent: dict[str, list[float]] = {policy: [] for policy in policies}
    ratios: dict[str, list[float]] = {policy: [] for policy in policies}
    admitted = dict.fromkeys(policies, 0)
    for turn in range(-_WARM_UP, rounds):
        seconds = _turn(schedulers, situation, turn, waiting)
        for policy, value in seconds.items() if turn >= 0 else ():
            spent[policy].append(value)
            admitted[policy] += schedulers[policy].admitted
            ratios[policy].append(value / seconds[policies[0]])
    return {policy: cost(spent[policy], ratios[policy], admitted[policy]) for policy in policies}


_WARM_UP = 5  # rounds: everybody is new in the first
_EVERY = 10  # of a policy that looks at all who wait, where these are many


def _turn(
    schedulers: Mapping[str, Scheduler], situation: str, turn: int, waiting: int
) -> dict[str, float]:
    names = [
        name
        for name in schedulers
        if name != "dfs-weight" or waiting < 1_000 or turn % _EVERY == 0 or turn == -1
    ]
    first = turn % len(names)
    seconds = {}
    for name in names[first:] + names[:first]:
        scheduler = schedulers[name]
        seconds[name] = scheduler.steady_round() if situation == STEADY else scheduler.idle_round()
    return seconds


def cost(spent: Sequence[float], ratios: Sequence[float], admitted: int) -> Cost:
    ordered = sorted(ratios)
    count = len(ordered)
    # Between these two of the ordered values the true median lies in 95 of 100 cases.
    low = max(0, math.floor((count - 1.96 * math.sqrt(count)) / 2))
    high = min(count - 1, count - 1 - low)
    middle = sorted(spent)[count // 2]
    middles = middle * 1e6, ordered[count // 2]
    return Cost(*middles, ordered[low], ordered[high], admitted / count, count)
