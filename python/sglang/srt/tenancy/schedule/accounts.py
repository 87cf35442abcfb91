"""What each user has been served, in tokens by weight, and what each request has paid for.

The unit is service: tokens times their weight, divided by the user's own weight. Nothing
here asks the time or the order of a set, so all ranks of a server keep the same books.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sglang.srt.tenancy.user_id import account_name

if TYPE_CHECKING:
    from sglang.srt.managers.schedule_batch import Req
    from sglang.srt.tenancy.options import TenantOptions

# Accounts that may pile up before those that nobody needs any more are closed.
IDLE_ACCOUNTS = 1024


@dataclass(frozen=True, slots=True)
class Prices:
    """Service per token: of a prompt, computed or found in the cache, and of an answer."""

    computed: float
    cached: float
    output: float

    @classmethod
    def of(cls, options: TenantOptions) -> Prices:
        return cls(
            computed=options.tenant_input_weight,
            cached=options.tenant_cached_weight,
            output=options.tenant_output_weight,
        )


@dataclass(slots=True, eq=False)
class Account:
    """One user's account.

    ``counter``: service so far, divided by ``weight``. ``waiting`` and ``running``: requests.
    ``queue``, ``ranked``, ``turn``: the policy's own.
    """

    weight: float
    counter: float = 0.0
    waiting: int = 0
    running: int = 0
    queue: deque[Ticket] = field(default_factory=deque)
    ranked: list[Any] = field(default_factory=list)
    turn: Any = None

    def __lt__(self, other: Account) -> bool:
        """For heaps, where entries with equal keys are one account's, new and outdated."""
        return False


@dataclass(slots=True, eq=False)
class Ticket:
    """One request. ``arrival``: its number in the order of coming.

    ``prompt`` and ``outputs``: tokens it was charged for. ``rank``: the policy's own.
    """

    req: Req
    account: Account
    arrival: int
    waiting: bool = True
    admitted: bool = False
    prompt: int = 0
    outputs: int = 0
    rank: Any = None

    def __lt__(self, other: Ticket) -> bool:
        """For heaps, as above."""
        return False


class Ledger:
    """All accounts of one scheduler. ``weights``: user -> weight, 1 where not listed."""

    def __init__(self, prices: Prices, weights: Mapping[str, float]):
        self.prices = prices
        self.weights = weights
        self.accounts: dict[str, Account] = {}
        self.tickets: dict[Req, Ticket] = {}
        self.waiting = 0
        self._arrivals = 0
        self._running: dict[Req, Ticket] = {}
        self._look_at = IDLE_ACCOUNTS

    def account_of(self, req: Req) -> Account:
        name = account_name(req.user_id)
        account = self.accounts.get(name)
        if account is None:
            account = self.accounts[name] = Account(self.weights.get(name, 1.0))
        return account

    # Coming and going

    def newcomers(self, waiting: Sequence[Req]) -> Sequence[Req]:
        """Those of the scheduler's queue that have no ticket to wait, in their order.

        The scheduler appends to its queue and filters it, so they are its end.
        """
        first = len(waiting)
        while first and not self._waits(waiting[first - 1]):
            first -= 1
        if self.waiting + len(waiting) - first < len(waiting):
            return [req for req in waiting if not self._waits(req)]
        return waiting[first:]

    def _waits(self, req: Req) -> bool:
        ticket = self.tickets.get(req)
        return ticket is not None and ticket.waiting

    def leavers(self, waiting: Sequence[Req], newcomers: int) -> list[Ticket]:
        """Tickets of requests that left the queue without a turn: aborted, or timed out.

        Only their number tells that there are any, and then everybody is counted.
        """
        if self.waiting + newcomers == len(waiting):
            return []
        present = set(waiting)
        return [t for t in self.tickets.values() if t.waiting and t.req not in present]

    def enter(self, req: Req) -> Ticket:
        """A ticket to wait. A retracted request gets its own back, with what it has paid."""
        self._arrivals += 1
        ticket = self.tickets.get(req)
        if ticket is None:
            ticket = self.tickets[req] = Ticket(req, self.account_of(req), self._arrivals)
        else:
            ticket.account.running -= 1
            del self._running[req]
            ticket.waiting, ticket.arrival = True, self._arrivals
        ticket.account.waiting += 1
        self.waiting += 1
        return ticket

    def leave(self, ticket: Ticket) -> None:
        """The request waits no longer and never will."""
        self._stop_waiting(ticket)
        del self.tickets[ticket.req]

    def admit(self, ticket: Ticket) -> None:
        """The request runs from now on: charge its prompt, unless it was charged before."""
        self._stop_waiting(ticket)
        self._running[ticket.req] = ticket
        ticket.account.running += 1
        if ticket.admitted:
            return  # retracted in between: nobody pays for what the server threw away
        req = ticket.req
        ticket.admitted, ticket.prompt = True, len(req.origin_input_ids)
        cached = min(len(req.prefix_indices), ticket.prompt)
        computed = ticket.prompt - cached
        self._charge(ticket.account, computed * self.prices.computed + cached * self.prices.cached)

    def _stop_waiting(self, ticket: Ticket) -> None:
        ticket.waiting = False
        ticket.account.waiting -= 1
        self.waiting -= 1

    # Charging

    def settle(self) -> list[Account]:
        """Charge what has been produced since the last time. Returns accounts that got back."""
        repaid: list[Account] = []
        ended: list[Ticket] = []
        for req, ticket in self._running.items():
            produced = len(req.output_ids) - ticket.outputs
            if produced > 0:
                ticket.outputs += produced
                self._charge(ticket.account, produced * self.prices.output)
            if req.finished() or req.req_pool_idx is None:
                ended.append(ticket)
        for ticket in ended:
            if self._repay(ticket):
                repaid.append(ticket.account)
            ticket.account.running -= 1
            del self._running[ticket.req], self.tickets[ticket.req]
        return repaid

    def _repay(self, ticket: Ticket) -> bool:
        """Give back what was charged for chunks of the prompt that an abort left uncomputed."""
        done = ticket.req.extend_range
        if done is None or done.end >= ticket.prompt:
            return False
        self._charge(ticket.account, (done.end - ticket.prompt) * self.prices.computed)
        return True

    def _charge(self, account: Account, service: float) -> None:
        account.counter += service / account.weight

    # Closing

    def close_idle(self, floor: float, keep: Account | None) -> None:
        """Forget accounts that would be lifted to ``floor`` anyway when they come back.

        Looks only when their number has doubled, so that each newcomer pays a constant.
        """
        if len(self.accounts) <= self._look_at:
            return
        self.accounts = {
            name: account
            for name, account in self.accounts.items()
            if account.waiting or account.running or account is keep or account.counter > floor
        }
        self._look_at = max(IDLE_ACCOUNTS, 2 * len(self.accounts))
