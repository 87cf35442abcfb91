"""What both fair policies share: keeping the books, and giving turns one at a time.

Upstream sorts its queue and walks along it. Here the queue stays in the order of arrival,
and the scheduler asks for the next request after each one it has taken: so a turn can
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
from sglang.srt.tenancy.schedule.service_tracker import Account, Ledger, Prices, Ticket

if TYPE_CHECKING:
    from sglang.srt.managers.schedule_batch import Req
    from sglang.srt.managers.schedule_policy import PrefillAdder
    from sglang.srt.tenancy.flags import TenantOptions

# Turns after which a user who had one counts as gone.
LATELY = 64


class FairPolicy(SchedulePolicy):
    """Upstream's FCFS with ``turns`` in place of the queue's own order."""

    def __init__(
        self,
        policy: str,
        *upstream: Any,
        options: TenantOptions,
        weights: Mapping[str, float],
    ):
        super().__init__("fcfs", *upstream)
        self.name = policy
        self.ledger = Ledger(Prices.of(options), weights)
        self._last: Account | None = None  # whose request was the last to leave the queue
        self._without: Account | None = None  # who has no turn in this round
        self._lately: deque[Account] = deque(maxlen=LATELY)  # whose turns were the last
        self._is_open = False  # whether the books are up to date for this round

    def news(self, waiting: Sequence[Req]) -> bool:
        """Whether somebody has come since the books were last brought up to date. The last of
        the queue tells: while nobody can run, newcomers pile up before it."""
        return bool(waiting) and not self.ledger.waits(waiting[-1])

    def knows_others(self, req: Req) -> bool:
        """Whether one of the last turns was not its user's."""
        account = self.ledger.account_of(req)
        return any(other is not account for other in self._lately)

    def takes(self, req: Req, step: int) -> bool:
        """Whether its prompt takes more than one step of so many tokens."""
        return self._work(req) > step

    def overtakes(self, waiting: Sequence[Req], begun: Req) -> bool:
        """Whether the turn is of a request that goes before the rest of a prompt that has begun:
        of somebody who was served less, and needs less. So turns never go to and fro."""
        if not waiting:
            return False
        self._open(waiting)
        self._is_open = True
        ticket, other = self._choose(), self.ledger.tickets.get(begun)
        if ticket is None or other is None:  # the prompt has been aborted
            return False
        return self._goes_before(ticket, other)

    def _goes_before(self, ticket: Ticket, begun: Ticket) -> bool:
        return (
            ticket.account is not begun.account
            and ticket.account.due <= begun.account.due
            and self._work(ticket.req) < self._work(begun.req)
            and self._room(ticket.req) < begun.req.seqlen + _answer(begun.req)
        )

    def _work(self, req: Req) -> int:
        """Tokens of its prompt that no tier of the cache had when it began, or has now."""
        ticket = self.ledger.tickets.get(req)
        if ticket is not None and ticket.admitted:
            return ticket.whole - ticket.found
        match_prefix_for_req(self.tree_cache, req, include_req=True)
        tokens: int = req.seqlen - req.num_matched_prefix_tokens
        return tokens

    def _room(self, req: Req) -> int:
        """Tokens that it takes up; after ``_work``, which matches it."""
        return req.seqlen - len(req.prefix_indices) + _answer(req)

    @contextmanager
    def without(self, req: Req) -> Iterator[None]:
        """A round in which no turn is of this request's user."""
        account = self._without = self.ledger.account_of(req)
        self._is_open = False
        try:
            yield
        finally:
            self._without = None
            self._add_turn(account)

    def turns(self, waiting: Sequence[Req], adder: PrefillAdder) -> Iterator[Req]:
        """Waiting requests, each the one whose turn it is after what the former ones cost.

        One that the scheduler passes over is not offered again in this round. Leaving the
        loop ends the generator, which books the last turn.
        """
        if not self._is_open:
            self._open(waiting)
        passed: list[Ticket] = []
        ticket: Ticket | None = None
        try:
            while (ticket := self._next(adder)) is not None:
                yield ticket.req
                self._end_turn(ticket, adder, passed)
        finally:
            if ticket is not None:
                self._end_turn(ticket, adder, passed)
            for ticket in reversed(passed):
                self._put_back(ticket)

    def reweigh(self, weights: Mapping[str, float]) -> None:
        """Divide service by other weights from now on. To be called between two rounds."""
        for account in self.ledger.reweigh(weights):
            self._add_turn(account)

    def close(self) -> None:
        """The round is over."""
        self._is_open = False

    def _open(self, waiting: Sequence[Req]) -> None:
        """Bring the books up to date.

        Those who came since the last round are entered first, as if right after it: what
        has been produced since then is charged when they are already in the queue.
        """
        ledger = self.ledger
        newcomers = ledger.newcomers(waiting)
        for ticket in ledger.leavers(waiting, len(newcomers)):
            if ledger.leave(ticket):
                self._add_turn(ticket.account)
            self._last = ticket.account
        for req in newcomers:
            account = ledger.account_of(req)
            if not account.waiting:
                account.lift(self._floor())
            self._add(ledger.enter(req))
        for account in ledger.settle():
            self._add_turn(account)
        ledger.close_idle(self._floor(), self._last)

    def _next(self, adder: PrefillAdder) -> Ticket | None:
        """Whose turn it is; None where it is nobody's in this step."""
        ticket = self._choose()
        if ticket is not None and ticket.admitted and self._without is None:
            ticket = self._before(ticket)
        return None if ticket is None or self._would_delay(ticket, adder) else ticket

    def _before(self, begun: Ticket) -> Ticket:
        """Who goes before one that has begun, or run, and is back in the queue; or else itself."""
        with self.without(begun.req):
            other = self._choose()
        return begun if other is None or not self._goes_before(other, begun) else other

    def _would_delay(self, ticket: Ticket, adder: PrefillAdder) -> bool:
        """Whether it is a prompt of several steps, and others' are computed in this one: they
        would have to wait for a full step."""
        step = adder.rem_chunk_tokens
        if step is None or not adder.can_run_list or ticket.req.seqlen <= step:
            return False
        if all(self.ledger.account_of(req) is ticket.account for req in adder.can_run_list):
            return False
        step += sum(req.extend_range.length for req in adder.can_run_list)
        return self._work(ticket.req) > step

    def _end_turn(self, ticket: Ticket, adder: PrefillAdder, passed: list[Ticket]) -> None:
        self._take(ticket)
        if adder.can_run_list and adder.can_run_list[-1] is ticket.req:
            self.ledger.admit(ticket)
            self._last = ticket.account
            self._lately.append(ticket.account)
        else:
            passed.append(ticket)

    @abstractmethod
    def _floor(self) -> float:
        """What is due at least from an account when its first request comes to wait."""

    @abstractmethod
    def _choose(self) -> Ticket | None:
        """Whose turn it is, but not ``_without``'s; None where nobody else waits. Asked twice, it
        answers the same."""

    @abstractmethod
    def _add(self, ticket: Ticket) -> None:
        """A request has come."""

    @abstractmethod
    def _take(self, ticket: Ticket) -> None:
        """The chosen request is out, for now or for good."""

    @abstractmethod
    def _put_back(self, ticket: Ticket) -> None:
        """It was only passed over. Called in the reverse order of ``_take``."""

    @abstractmethod
    def _add_turn(self, account: Account) -> None:
        """It may have a turn again, or sooner: less is due from it than was."""


def _answer(req: Req) -> int:
    """Tokens that are kept free for it, as PrefillAdder does."""
    left: int = req.sampling_params.max_new_tokens - len(req.output_ids)
    return min(left, CLIP_MAX_NEW_TOKENS)
