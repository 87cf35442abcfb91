"""Track what each user has been served, in tokens by weight, and what each request was charged.

The unit is service: tokens times their weight, divided by the user's own weight. Nothing
here asks the time or the order of a set, so all ranks of a server count the same.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sglang.srt.tenancy.user_id import account_name

if TYPE_CHECKING:
    from sglang.srt.managers.schedule_batch import Req
    from sglang.srt.tenancy.flags import TenantOptions

# Accounts that may pile up before those that nobody needs any more are closed.
IDLE_USERS = 1024
# Users without a request of whom it is remembered that they were served more than others: where
# there is always somebody new to serve, the floor would never reach them.
REMEMBERED = 4096
# Entries that may pile up in a heap or queue before those that are outdated are thrown out.
OUTDATED = 64


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
class UserService:
    """What one user has been served.

    ``counter``: service so far, divided by ``weight``. ``promised``: tokens of prompts that
    have begun and are not computed yet; ``rate``: what one of them adds to the counter.
    ``last_admission``: the number of its last request admitted, 0 before the first.
    ``waiting`` and ``running``: requests.
    ``queue``, ``ranked``, ``entry``: the policy's own.
    """

    weight: float
    rate: float = 1.0
    counter: float = 0.0
    promised: int = 0
    last_admission: int = 0
    waiting: int = 0
    running: int = 0
    queue: deque[Ticket] = field(default_factory=deque)
    ranked: list[Any] = field(default_factory=list)
    entry: Any = None

    @property
    def due(self) -> float:
        """Return the counter once all that has begun is computed: users are compared by it, as a
        request is admitted with its whole prompt."""
        return self.counter + self.promised * self.rate

    def lift(self, floor: float) -> None:
        """Raise the counter of a user who comes back to the least of those who wait.

        One that was only preempted has not been away: the rest of its prompt counts, or each
        preemption would put it behind again.
        """
        self.counter = max(self.counter, floor - self.promised * self.rate)

    def __lt__(self, other: UserService) -> bool:
        """For heaps, where entries with equal keys are one user's, new and outdated."""
        return False


@dataclass(slots=True, eq=False)
class Ticket:
    """One request. ``arrival``: its number in the order of coming.

    ``whole``: tokens of its prompt once it is admitted, ``found``: those that were cached then.
    ``prompt`` and ``outputs``: tokens it was charged for, the prompt's from its first one on.
    ``rank``: the policy's own.
    """

    req: Req
    user: UserService
    arrival: int
    waiting: bool = True
    admitted: bool = False
    whole: int = 0
    found: int = 0
    prompt: int = 0
    outputs: int = 0
    rank: Any = None

    def __lt__(self, other: Ticket) -> bool:
        """For heaps, as above."""
        return False


class ServiceTracker:
    """Count the service of all users of one scheduler. ``weights``: by user, 1 where not listed."""

    def __init__(self, prices: Prices, weights: Mapping[str, float]):
        self.prices = prices
        self.weights = weights
        self.users: dict[str, UserService] = {}
        self.tickets: dict[Req, Ticket] = {}
        self.waiting = 0
        self._arrivals = 0
        self._admissions = 0
        self._running: dict[Req, Ticket] = {}
        self._look_at = IDLE_USERS

    def user_of(self, req: Req) -> UserService:
        name = account_name(req.user_id)
        user = self.users.get(name)
        if user is None:
            weight = self.weights.get(name, 1.0)
            user = self.users[name] = UserService(weight, self.prices.computed / weight)
        return user

    # Coming and going

    def newcomers(self, waiting: Sequence[Req]) -> Sequence[Req]:
        """Return those of the scheduler's queue that have no ticket to wait, in their order.

        The scheduler appends to its queue and filters it, so they are its end.
        """
        first = len(waiting)
        while first and not self.waits(waiting[first - 1]):
            first -= 1
        if self.waiting + len(waiting) - first < len(waiting):
            return [req for req in waiting if not self.waits(req)]
        return waiting[first:]

    def waits(self, req: Req) -> bool:
        """Tell whether it has a ticket to wait."""
        ticket = self.tickets.get(req)
        return ticket is not None and ticket.waiting

    def leavers(self, waiting: Sequence[Req], newcomers: int) -> list[Ticket]:
        """Return tickets of requests that left the queue unadmitted: aborted, or timed out.

        Only their number tells that there are any, and then everybody is counted.
        """
        if self.waiting + newcomers == len(waiting):
            return []
        present = set(waiting)
        return [t for t in self.tickets.values() if t.waiting and t.req not in present]

    def enter(self, req: Req) -> Ticket:
        """Give a ticket to wait. A request that is back in the queue still has its own, with its
        place and what it has paid."""
        ticket = self.tickets.get(req)
        if ticket is None:
            self._arrivals += 1
            ticket = self.tickets[req] = Ticket(req, self.user_of(req), self._arrivals)
        else:
            ticket.user.running -= 1
            del self._running[req]
            ticket.waiting = True
        ticket.user.waiting += 1
        self.waiting += 1
        return ticket

    def leave(self, ticket: Ticket) -> bool:
        """Drop a request that will not wait again. Returns whether less is due from its user."""
        self._stop_waiting(ticket)
        return self._close(ticket)

    def admit(self, ticket: Ticket) -> None:
        """Admit a request: charge what its prompt found in the cache, and what is
        computed of it in this step, unless it was charged before."""
        self._stop_waiting(ticket)
        self._running[ticket.req] = ticket
        user, req = ticket.user, ticket.req
        user.running += 1
        self._admissions += 1
        user.last_admission = self._admissions
        if not ticket.admitted:  # else it is back: nobody pays twice
            ticket.admitted = True
            ticket.whole = len(req.origin_input_ids)
            ticket.found = ticket.prompt = min(len(req.prefix_indices), ticket.whole)
            user.counter += ticket.prompt * self.prices.cached / user.weight
            user.promised += ticket.whole - ticket.prompt
        self._charge_prompt(ticket)

    def _stop_waiting(self, ticket: Ticket) -> None:
        ticket.waiting = False
        ticket.user.waiting -= 1
        self.waiting -= 1

    # Charging

    def charge_progress(self) -> list[UserService]:
        """Charge what has been computed and produced since the last time. Returns users from
        which less is due."""
        ended: list[Ticket] = []
        for req, ticket in self._running.items():
            if ticket.prompt < ticket.whole:
                self._charge_prompt(ticket)
            produced = len(req.output_ids) - ticket.outputs
            if produced > 0:
                ticket.outputs += produced
                ticket.user.counter += produced * self.prices.output / ticket.user.weight
            if req.finished() or req.req_pool_idx is None:
                ended.append(ticket)
        for ticket in ended:
            ticket.user.running -= 1
            del self._running[ticket.req]
        return [ticket.user for ticket in ended if self._close(ticket)]

    def _charge_prompt(self, ticket: Ticket) -> None:
        """Charge a long prompt chunk by chunk, as it is computed."""
        chunk = ticket.req.extend_range
        if chunk is None:
            return
        computed = min(chunk.end, ticket.whole) - ticket.prompt
        if computed > 0:
            user = ticket.user
            ticket.prompt += computed
            user.promised -= computed
            user.counter += computed * user.rate

    def _close(self, ticket: Ticket) -> bool:
        """Charge nobody for chunks of a prompt that an abort has left uncomputed."""
        del self.tickets[ticket.req]
        rest = ticket.whole - ticket.prompt
        ticket.user.promised -= rest
        return rest > 0

    # Weights

    def reweigh(self, weights: Mapping[str, float]) -> list[UserService]:
        """Charge by other weights from now on; what was served before stays charged as it was.
        Returns users from which less may be due."""
        ended = self.charge_progress()
        self.weights = weights
        for name, user in self.users.items():
            user.weight = weights.get(name, 1.0)
            user.rate = self.prices.computed / user.weight
        return list(dict.fromkeys((*ended, *self.users.values())))

    # Closing

    def close_idle(self, floor: float, keep: UserService | None) -> None:
        """Forget users that would be lifted to ``floor`` anyway when they come back, and of the
        others without a request all but the ``REMEMBERED`` that were admitted last.

        Looks only when their number has doubled, so that each newcomer pays a constant.
        """
        if len(self.users) <= self._look_at:
            return
        idle: list[tuple[str, UserService]] = []
        open_: dict[str, UserService] = {}
        for name, user in self.users.items():
            if user.waiting or user.running or user is keep:
                open_[name] = user
            elif user.counter > floor:
                idle.append((name, user))
        idle.sort(key=lambda entry: entry[1].last_admission)
        self.users = open_ | dict(idle[-REMEMBERED:])
        self._look_at = max(IDLE_USERS, 2 * len(self.users))

    def piles_up(self, entries: int) -> bool:
        """Tell whether most of so many entries (a waiting request has one) are outdated."""
        return entries > 2 * self.waiting + OUTDATED
