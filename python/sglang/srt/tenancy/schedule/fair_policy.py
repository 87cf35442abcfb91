"""Charge users, and choose requests one at a time: what both fair policies share.

Upstream sorts its queue and walks along it. Here the queue stays in the order of arrival,
and the scheduler asks for the next request after each one it has taken: so a choice can
depend on what the last one cost, and a round costs nothing for those that only wait.
"""

from __future__ import annotations

from abc import abstractmethod
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from sglang.srt.managers.schedule_policy import (
    CLIP_MAX_NEW_TOKENS,
    SchedulePolicy,
    match_prefix_for_req,
)
from sglang.srt.tenancy.schedule.service_tracker import Prices, ServiceTracker, Ticket, UserService

if TYPE_CHECKING:
    from sglang.srt.managers.schedule_batch import Req
    from sglang.srt.managers.schedule_policy import PrefillAdder
    from sglang.srt.tenancy.flags import TenantOptions

# Admissions after which a user who had one counts as gone.
RECENT_ADMISSIONS = 64


class FairPolicy(SchedulePolicy):
    """Upstream's FCFS with ``requests_to_try`` in place of the queue's own order."""

    def __init__(
        self,
        policy: str,
        *upstream: Any,
        options: TenantOptions,
        weights: Mapping[str, float],
    ):
        super().__init__("fcfs", *upstream)
        self.name = policy
        self.tracker = ServiceTracker(Prices.of(options), weights)
        self._last: UserService | None = None  # whose request was the last to leave the queue
        self._excluded: UserService | None = None  # who is not chosen in this round
        self._recent: deque[UserService] = deque(
            maxlen=RECENT_ADMISSIONS
        )  # whose requests were admitted last
        self._is_open = False  # whether the tracker is up to date for this round

    def has_newcomers(self, waiting: Sequence[Req]) -> bool:
        """Tell whether somebody has come since the tracker was brought up to date. The last of
        the queue tells: while nobody can run, newcomers pile up before it."""
        return bool(waiting) and not self.tracker.waits(waiting[-1])

    def admitted_others(self, req: Req) -> bool:
        """Tell whether one of the last requests admitted was another user's."""
        user = self.tracker.user_of(req)
        return any(other is not user for other in self._recent)

    def takes_more_than(self, req: Req, step: int) -> bool:
        """Tell whether its prompt takes more than one step of so many tokens."""
        return self._work(req) > step

    def preempts(self, waiting: Sequence[Req], begun: Req) -> bool:
        """Tell whether the next request goes before the rest of a prompt that has begun: it is of
        somebody who was served less, and needs less. So two never preempt each other."""
        if not waiting:
            return False
        self._open(waiting)
        self._is_open = True
        ticket, other = self._choose(), self.tracker.tickets.get(begun)
        if ticket is None or other is None:  # the prompt has been aborted
            return False
        return self._goes_before(ticket, other)

    def _goes_before(self, ticket: Ticket, begun: Ticket) -> bool:
        return (
            ticket.user is not begun.user
            and ticket.user.due <= begun.user.due
            and self._work(ticket.req) < self._work(begun.req)
            and self._room(ticket.req) < begun.req.seqlen + _answer(begun.req)
        )

    def _work(self, req: Req) -> int:
        """Count its prompt's tokens that no tier of the cache had when it began, or has now."""
        ticket = self.tracker.tickets.get(req)
        if ticket is not None and ticket.admitted:
            return ticket.whole - ticket.found
        match_prefix_for_req(self.tree_cache, req, include_req=True)
        tokens: int = req.seqlen - req.num_matched_prefix_tokens
        return tokens

    def _room(self, req: Req) -> int:
        """Count the tokens that it takes up; after ``_work``, which matches it."""
        return req.seqlen - len(req.prefix_indices) + _answer(req)

    @contextmanager
    def excluding(self, req: Req) -> Iterator[None]:
        """Choose nothing of this request's user in this round."""
        user = self._excluded = self.tracker.user_of(req)
        self._is_open = False
        try:
            yield
        finally:
            self._excluded = None
            self._add_entry(user)

    def requests_to_try(self, waiting: Sequence[Req], adder: PrefillAdder) -> Iterator[Req]:
        """Yield waiting requests, each chosen after what the former ones cost.

        One that the scheduler skips is not offered again in this round. Leaving the
        loop ends the generator, which charges for the last one.
        """
        if not self._is_open:
            self._open(waiting)
        skipped: list[Ticket] = []
        ticket: Ticket | None = None
        try:
            while (ticket := self._next(adder)) is not None:
                yield ticket.req
                self._end_attempt(ticket, adder, skipped)
        finally:
            if ticket is not None:
                self._end_attempt(ticket, adder, skipped)
            for ticket in reversed(skipped):
                self._put_back(ticket)

    def reweigh(self, weights: Mapping[str, float]) -> None:
        """Divide service by other weights from now on. To be called between two rounds."""
        for user in self.tracker.reweigh(weights):
            self._add_entry(user)

    def close(self) -> None:
        """End the round."""
        self._is_open = False

    def _open(self, waiting: Sequence[Req]) -> None:
        """Bring the tracker up to date.

        Those who came since the last round are entered first, as if right after it: what
        has been produced since then is charged when they are already in the queue.
        """
        tracker = self.tracker
        newcomers = tracker.newcomers(waiting)
        for ticket in tracker.leavers(waiting, len(newcomers)):
            if tracker.leave(ticket):
                self._add_entry(ticket.user)
            self._last = ticket.user
        for req in newcomers:
            user = tracker.user_of(req)
            if not user.waiting:
                user.lift(self._floor())
            self._add(tracker.enter(req))
        for user in tracker.charge_progress():
            self._add_entry(user)
        tracker.close_idle(self._floor(), self._last)

    def _next(self, adder: PrefillAdder) -> Ticket | None:
        """Return the next request; None where there is none for this step."""
        ticket = self._choose()
        if ticket is not None and ticket.admitted and self._excluded is None:
            ticket = self._before(ticket)
        return None if ticket is None or self._would_delay(ticket, adder) else ticket

    def _before(self, begun: Ticket) -> Ticket:
        """Return what goes before one that has begun, or run, and is back in the queue; or it."""
        with self.excluding(begun.req):
            other = self._choose()
        return begun if other is None or not self._goes_before(other, begun) else other

    def _would_delay(self, ticket: Ticket, adder: PrefillAdder) -> bool:
        """Tell whether it is a prompt of several steps, and others' are computed in this one: they
        would have to wait for a full step."""
        step = adder.rem_chunk_tokens
        if step is None or not adder.can_run_list or ticket.req.seqlen <= step:
            return False
        if all(self.tracker.user_of(req) is ticket.user for req in adder.can_run_list):
            return False
        step += sum(req.extend_range.length for req in adder.can_run_list)
        return self._work(ticket.req) > step

    def _end_attempt(self, ticket: Ticket, adder: PrefillAdder, skipped: list[Ticket]) -> None:
        self._take(ticket)
        if adder.can_run_list and adder.can_run_list[-1] is ticket.req:
            self.tracker.admit(ticket)
            self._last = ticket.user
            self._recent.append(ticket.user)
        else:
            skipped.append(ticket)

    @abstractmethod
    def _floor(self) -> float:
        """Return what is due at least from a user when its first request comes to wait."""

    @abstractmethod
    def _choose(self) -> Ticket | None:
        """Return the next request, none of ``_excluded``; None where nobody else waits. Asked
        twice, it answers the same."""

    @abstractmethod
    def _add(self, ticket: Ticket) -> None:
        """Take in a request that has come."""

    @abstractmethod
    def _take(self, ticket: Ticket) -> None:
        """Take the chosen request out, for now or for good."""

    @abstractmethod
    def _put_back(self, ticket: Ticket) -> None:
        """Put back what was only skipped. Called in the reverse order of ``_take``."""

    @abstractmethod
    def _add_entry(self, user: UserService) -> None:
        """Note that it may be chosen again, or sooner: less is due from it than was."""


def _answer(req: Req) -> int:
    """Count the tokens kept free for it, as PrefillAdder does."""
    left: int = req.sampling_params.max_new_tokens - len(req.output_ids)
    return min(left, CLIP_MAX_NEW_TOKENS)
