"""What both fair policies share: keeping the books, and giving turns one at a time.

Upstream sorts its queue and walks along it. Here the queue stays in the order of arrival,
and the scheduler asks for the next request after each one it has taken: so a turn can
depend on what the last one cost, and a round costs nothing for those that only wait.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from sglang.srt.managers.schedule_policy import SchedulePolicy
from sglang.srt.tenancy.config import TenantConfig
from sglang.srt.tenancy.schedule.accounts import Account, Ledger, Prices, Ticket

if TYPE_CHECKING:
    from sglang.srt.managers.schedule_batch import Req
    from sglang.srt.managers.schedule_policy import PrefillAdder
    from sglang.srt.tenancy.options import TenantOptions


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

    def turns(self, waiting: Sequence[Req], adder: PrefillAdder) -> Iterator[Req]:
        """Waiting requests, each the one whose turn it is after what the former ones cost.

        One that the scheduler passes over is not offered again in this round. Leaving the
        loop ends the generator, which books the last turn.
        """
        self._open(waiting)
        passed: list[Ticket] = []
        ticket: Ticket | None = None
        try:
            while (ticket := self._choose()) is not None:
                yield ticket.req
                self._end_turn(ticket, adder, passed)
        finally:
            if ticket is not None:
                self._end_turn(ticket, adder, passed)
            for ticket in reversed(passed):
                self._put_back(ticket)

    def _open(self, waiting: Sequence[Req]) -> None:
        """Bring the books up to date.

        Those who came since the last round are entered first, as if right after it: what
        has been produced since then is charged when they are already in the queue.
        """
        ledger = self.ledger
        newcomers = ledger.newcomers(waiting)
        for ticket in ledger.leavers(waiting, len(newcomers)):
            ledger.leave(ticket)
            self._last = ticket.account
        for req in newcomers:
            account = ledger.account_of(req)
            if not account.waiting:
                account.counter = max(account.counter, self._floor())
            self._add(ledger.enter(req))
        for account in ledger.settle():
            self._add_turn(account)
        ledger.close_idle(self._floor(), self._last)

    def _end_turn(self, ticket: Ticket, adder: PrefillAdder, passed: list[Ticket]) -> None:
        self._take(ticket)
        if adder.can_run_list and adder.can_run_list[-1] is ticket.req:
            self.ledger.admit(ticket)
            self._last = ticket.account
        else:
            passed.append(ticket)

    @abstractmethod
    def _floor(self) -> float:
        """The counter that an account has at least when its first request comes to wait."""

    @abstractmethod
    def _choose(self) -> Ticket | None:
        """Whose turn it is; None where nobody waits. Changes nothing."""

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
        """Its counter has gone down: its turn may come sooner."""


def policy_class(options: TenantOptions, name: str) -> Callable[..., SchedulePolicy]:
    """What builds the policy of this name, with upstream's arguments."""
    # Imported here: they are subclasses.
    from sglang.srt.tenancy.schedule.dlpm import DeficitLongestPrefixMatch
    from sglang.srt.tenancy.schedule.vtc import VirtualTokenCounter

    fair = {"vtc": VirtualTokenCounter, "dlpm": DeficitLongestPrefixMatch}
    if name not in fair:
        return SchedulePolicy
    config = options.tenant_config
    weights = TenantConfig.load(config).weights if config else {}
    return partial(fair[name], options=options, weights=weights)


def turns(policy: SchedulePolicy, waiting: list[Req], adder: PrefillAdder) -> Iterable[Req]:
    """The requests to try in this round, in their order. Upstream's policies have sorted them."""
    return policy.turns(waiting, adder) if isinstance(policy, FairPolicy) else waiting
