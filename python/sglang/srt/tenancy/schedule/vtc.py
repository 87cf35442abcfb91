"""Virtual token counter ("Fairness in Serving Large Language Models", OSDI 2024).

The turn is of the user whose counter is least, and of that user's oldest request. A user
who comes back to wait is lifted to the least counter of those who wait, so time away earns
no turns; of equal ones, whoever had no turn for longest is next. Of two users who both wait
all the time, the one who got more got at most
``2 * max(input weight * longest prompt, output weight * tokens that fit in memory)`` more.
"""

from __future__ import annotations

from bisect import insort
from heapq import heapify, heappop, heappush, heapreplace
from operator import attrgetter
from typing import Any

from sglang.srt.tenancy.schedule.fair_policy import FairPolicy
from sglang.srt.tenancy.schedule.service_tracker import Account, Ticket

Turn = tuple[float, int, int, Account]  # due, last turn, arrival of the oldest request


class VirtualTokenCounter(FairPolicy):
    """``--schedule-policy vtc``"""

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        # One valid entry per waiting account, ``account.turn``. What is due only rises, but for
        # aborts: an entry that has become too low is set right when it comes up.
        self._heap: list[Turn] = []

    def _floor(self) -> float:
        ticket = self._choose()
        if ticket is not None:
            return ticket.account.counter
        return self._last.counter if self._last else 0.0

    def _choose(self) -> Ticket | None:
        heap = self._heap
        while heap:
            entry = heap[0]
            account = entry[3]
            valid = account.turn is entry and account is not self._without
            head = _head(account) if valid else None
            if head is None:
                if account.turn is entry:
                    account.turn = None
                heappop(heap)
            elif entry[:3] == (account.due, account.last_turn, head.arrival):
                return head
            else:
                account.turn = (account.due, account.last_turn, head.arrival, account)
                heapreplace(heap, account.turn)
        return None

    def _add(self, ticket: Ticket) -> None:
        account, queue = ticket.account, ticket.account.queue
        if queue and ticket.arrival < queue[-1].arrival:
            insort(queue, ticket, key=attrgetter("arrival"))  # it is back
        else:
            queue.append(ticket)
        if account.turn is None:
            self._add_turn(account)

    def _take(self, ticket: Ticket) -> None:
        ticket.account.queue.popleft()

    def _put_back(self, ticket: Ticket) -> None:
        ticket.account.queue.appendleft(ticket)
        self._add_turn(ticket.account)

    def _add_turn(self, account: Account) -> None:
        head = _head(account)
        if head is not None:
            account.turn = (account.due, account.last_turn, head.arrival, account)
            heappush(self._heap, account.turn)
            if self.ledger.piles_up(len(self._heap)):
                self._throw_out()

    def _throw_out(self) -> None:
        """Outdated entries that never come up: of users who are gone, where others are always
        served before."""
        for entry in self._heap:
            if entry[3].turn is entry and _head(entry[3]) is None:
                entry[3].turn = None
        self._heap = [entry for entry in self._heap if entry[3].turn is entry]
        heapify(self._heap)


def _head(account: Account) -> Ticket | None:
    """The oldest of its waiting requests."""
    queue = account.queue
    while queue and not queue[0].waiting:
        queue.popleft()
    return queue[0] if queue else None
