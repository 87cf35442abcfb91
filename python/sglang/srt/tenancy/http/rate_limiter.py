"""Limit how much each user has running, waiting and spent, counted per HTTP process.

Each process grants its share of a limit, rounded up. Time is looked at here only: no decision
of the scheduler depends on it.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import islice

from sglang.srt.tenancy.errors import RequestError
from sglang.srt.tenancy.limits import Limits
from sglang.srt.tenancy.user_id import SHARED_ANONYMOUS

# Bytes of a prompt to a token, for the first estimate.
BYTES_PER_TOKEN = 4
# Users looked at, whether there is still something to remember of them, for each who enters.
# More than one, so that they are forgotten faster than they come.
LOOKED_AT = 2


class LimitExceeded(RequestError):
    """429. ``retry_after``: whole seconds after which it is worth to ask again."""

    def __init__(self, limit: str, message: str, retry_after: float = 1.0):
        self.retry_after = max(1, math.ceil(retry_after))
        super().__init__(429, limit, f"{limit}: {message}; retry in {self.retry_after} s")

    @property
    def headers(self) -> dict[str, str]:
        return {"Retry-After": str(self.retry_after)}


@dataclass(slots=True)
class Standing:
    """What one user has going on. ``used``: tokens charged and not yet worn off."""

    running: int = 0
    waiters: deque[tuple[int, asyncio.Future[None]]] = field(default_factory=deque)
    used: float = 0.0
    as_of: float = 0.0

    @property
    def idle(self) -> bool:
        return not (self.running or self.waiters or self.used)

    @property
    def queued(self) -> int:
        return sum(prompts for prompts, _ in self.waiters)


@dataclass(slots=True)
class Permit:
    """What one request was let in with. ``tokens``: charged by estimate, and not yet used."""

    answers: Counter[str]
    tokens: dict[str, float]
    open: bool = True


class RateLimiter:
    """Counts all users of one HTTP process. ``limits_of``: a user's, as they are now."""

    def __init__(
        self,
        limits_of: Callable[[str], Limits],
        processes: int = 1,
        now: Callable[[], float] = time.monotonic,
    ):
        self.limits_of = limits_of
        self.processes = processes
        self.now = now
        # Of users with something to remember, and some others. The first was not looked at for
        # longest.
        self.standings: OrderedDict[str, Standing] = OrderedDict()
        # For operators: answers let in so far, going on, and waiting; whom a limit refused.
        self.admitted = self.running = self.waiting = 0
        self._limited: Counter[tuple[str, str]] = Counter()

    def take_limited(self) -> dict[str, dict[str, int]]:
        """Return user -> limit -> refusals since this was last called."""
        taken: dict[str, dict[str, int]] = {}
        for (user, limit), number in self._limited.items():
            taken.setdefault(user, {})[limit] = number
        self._limited.clear()
        return taken

    async def enter(self, answers: Mapping[str, int], tokens: Mapping[str, float]) -> Permit:
        """Let a request in, at once or when it is the next of those that wait.

        ``answers``: how many of each user the engine is to compute; ``tokens``: what a user's
        prompts are estimated to hold. Raises LimitExceeded, and RequestError 400 for what could
        never be let in. Cancelling it leaves nothing behind.
        """
        asked = Counter(answers)
        self._look_around(LOOKED_AT * len(asked))
        try:
            for user, count in asked.items():
                self._check(user, count, alone=len(asked) == 1)
        except RequestError:
            for user in asked:
                self._forget_if_idle(user)
            raise
        for user, count in asked.items():
            await self._take(user, count)
        charged = {user: tokens.get(user, 0.0) for user in asked}
        for user, amount in charged.items():
            self.spend(user, amount)
        return Permit(asked, charged)

    def under_way(self) -> tuple[int, int]:
        """Count the answers of all users that are running, and the prompts that wait to be."""
        standings = self.standings.values()
        return sum(s.running for s in standings), sum(s.queued for s in standings)

    def refuse_if_full(self, user: str | None) -> None:
        """Refuse a user who has no room for one more answer now. Raises LimitExceeded."""
        user = user or SHARED_ANONYMOUS
        try:
            self._check(user, 1, alone=True)
        finally:
            self._forget_if_idle(user)

    def charge(self, permit: Permit, user: str, tokens: float) -> None:
        """Charge what a request used; what was charged for it by estimate counts towards it."""
        if not permit.open:
            return
        estimated = min(permit.tokens.get(user, 0.0), tokens)
        if estimated:
            permit.tokens[user] -= estimated
        self.spend(user, tokens - estimated)

    def leave(self, permit: Permit) -> None:
        """End a request; what it was estimated to use and has not is given back."""
        if not permit.open:
            return
        permit.open = False
        for user, count in permit.answers.items():
            self._give_back(user, count)
            self.spend(user, -permit.tokens[user])
            self._forget_if_idle(user)

    def spend(self, user: str | None, tokens: float) -> None:
        """Charge (or, below 0, give back) tokens. They wear off at the rate of the limit."""
        user = user or SHARED_ANONYMOUS
        if self._limits(user).tokens_per_minute is not None:
            standing = self._standing(user)
            self._wear_off(user, standing)
            standing.used = max(0.0, standing.used + tokens)

    def _limits(self, user: str) -> Limits:
        return self.limits_of(user).share(self.processes)

    def _standing(self, user: str) -> Standing:
        standing = self.standings.get(user)
        if standing is None:
            standing = self.standings[user] = Standing(as_of=self.now())
        return standing

    def _check(self, user: str, count: int, *, alone: bool) -> None:
        limits, standing = self._limits(user), self._standing(user)
        most = limits.max_running
        if most is not None and count > most:
            raise RequestError(
                400, "max_running", f"max_running: {count} prompts at once, {most} are allowed"
            )
        allowed = limits.tokens_per_minute
        if allowed is not None:
            self._wear_off(user, standing)
            if standing.used >= allowed:
                wait = (standing.used - allowed) * 60 / allowed
                raise self._exceeded(user, "tokens_per_minute", f"{allowed} are used up", wait)
        if most is None or (standing.running + count <= most and not standing.waiters):
            return
        if not alone:  # nobody waits for two users at once: they could wait for each other
            raise self._exceeded(user, "max_running", f"{most} prompts are running")
        queue = limits.max_queued
        if queue is not None and standing.queued + count > queue:
            fault = f"{most} prompts are running and {queue} waiting"
            raise self._exceeded(user, "max_queued", fault)

    def _exceeded(self, user: str, limit: str, fault: str, wait: float = 1.0) -> LimitExceeded:
        self._limited[user, limit] += 1
        return LimitExceeded(limit, fault, wait)

    async def _take(self, user: str, count: int) -> None:
        standing, most = self._standing(user), self._limits(user).max_running
        if most is None or (standing.running + count <= most and not standing.waiters):
            self._begin(standing, count)
            return
        admitted = asyncio.get_running_loop().create_future()
        standing.waiters.append((count, admitted))
        self.waiting += count
        try:
            await admitted
        except asyncio.CancelledError:
            if admitted.done() and not admitted.cancelled():  # while the client went away
                self._give_back(user, count)
            elif (count, admitted) in standing.waiters:
                standing.waiters.remove((count, admitted))
                self.waiting -= count
                self._call_next(user, standing)
            self._forget_if_idle(user)
            raise

    def _give_back(self, user: str, count: int) -> None:
        standing = self._standing(user)
        standing.running -= count
        self.running -= count
        self._call_next(user, standing)

    def _begin(self, standing: Standing, count: int) -> None:
        standing.running += count
        self.running += count
        self.admitted += count

    def _call_next(self, user: str, standing: Standing) -> None:
        most = self._limits(user).max_running
        while standing.waiters:
            count, admitted = standing.waiters[0]
            if most is not None and standing.running + count > most:
                return
            standing.waiters.popleft()
            self.waiting -= count
            if not admitted.done():
                self._begin(standing, count)
                admitted.set_result(None)

    def _wear_off(self, user: str, standing: Standing) -> None:
        now, allowed = self.now(), self._limits(user).tokens_per_minute or math.inf
        standing.used = max(0.0, standing.used - (now - standing.as_of) * allowed / 60)
        standing.as_of = now

    def _look_around(self, users: int) -> None:
        """Forget those whose tokens have worn off since they were looked at."""
        for user in list(islice(self.standings, users)):
            self._wear_off(user, self.standings[user])
            self.standings.move_to_end(user)
            self._forget_if_idle(user)

    def _forget_if_idle(self, user: str) -> None:
        standing = self.standings.get(user)
        if standing is not None and standing.idle:
            del self.standings[user]
