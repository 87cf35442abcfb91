"""What counting users' requests for operators adds to a scheduler's steps."""

from __future__ import annotations

import time

from round_cost.rounds import Cost, Scheduler, cost
from sglang.srt.tenancy.usage import Found, UsageCounter

_WARM_UP = 20  # steps
_WAITING, _USERS = 100, 50


class NoCounter(UsageCounter):
    """Counts nothing."""

    def admit(self, user: str, found: Found) -> None:
        pass

    def answered(self, user: str, tokens: int) -> None:
        pass


class Uncounted(Scheduler):
    """A scheduler whose cache counts nothing for operators."""

    def __init__(self, policy: str, waiting: int, users: int):
        super().__init__(policy, waiting, users)
        self.cache.usage = self.cache._requests._usage = NoCounter()


def counting_cost(policy: str, steps: int) -> Cost:
    """Let two schedulers do the same steps in turn, of which one counts nothing.

    A step is all that the scheduler does for a batch of prompts or a token of each answer:
    choosing it, and putting into the cache what was computed. The ratio is of equal steps.
    """
    counted, uncounted = Scheduler(policy, _WAITING, _USERS), Uncounted(policy, _WAITING, _USERS)
    spent, ratios, admitted = [], [], 0
    for number in range(-_WARM_UP, steps):
        pair = (counted, uncounted) if number % 2 else (uncounted, counted)
        seconds = {scheduler: _step(scheduler) for scheduler in pair}
        if number >= 0:
            spent.append(seconds[counted])
            ratios.append(seconds[counted] / seconds[uncounted])
            admitted += counted.admitted
    return cost(spent, ratios, admitted)


def _step(scheduler: Scheduler) -> float:
    scheduler.fill()
    started = time.perf_counter()
    scheduler.step()
    return time.perf_counter() - started
