"""Virtual token counter ("Fairness in Serving Large Language Models", OSDI 2024).

The next request is the oldest of the user whose counter is least. A user
who comes back to wait is lifted to the least counter of those who wait, so time away earns
nothing; of equal ones, the one admitted longest ago is next. Of two users who both wait
all the time, the one who got more got at most
``2 * max(input weight * longest prompt, output weight * tokens that fit in memory)`` more.
"""

from __future__ import annotations

from bisect import insort
from heapq import heapify, heappop, heappush, heapreplace
from operator import attrgetter
from typing import Any

from sglang.srt.tenancy.schedule.fair_policy import FairPolicy
from sglang.srt.tenancy.schedule.service_tracker import Ticket, UserService

HeapEntry = tuple[
    float, int, int, UserService
]  # due, last admission, arrival of the oldest request


class VirtualTokenCounter(FairPolicy):
    """``--schedule-policy vtc``"""

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        # One valid entry per waiting user, ``user.entry``. What is due only rises, but for
        # aborts: an entry that has become too low is set right when it comes up.
        self._heap: list[HeapEntry] = []

    def _floor(self) -> float:
        ticket = self._choose()
        if ticket is not None:
            return ticket.user.counter
        return self._last.counter if self._last else 0.0

    def _choose(self) -> Ticket | None:
        heap = self._heap
        while heap:
            entry = heap[0]
            user = entry[3]
            valid = user.entry is entry and user is not self._excluded
            head = _head(user) if valid else None
            if head is None:
                if user.entry is entry:
                    user.entry = None
                heappop(heap)
            elif entry[:3] == (user.due, user.last_admission, head.arrival):
                return head
            else:
                user.entry = (user.due, user.last_admission, head.arrival, user)
                heapreplace(heap, user.entry)
        return None

    def _add(self, ticket: Ticket) -> None:
        user, queue = ticket.user, ticket.user.queue
        if queue and ticket.arrival < queue[-1].arrival:
            insort(queue, ticket, key=attrgetter("arrival"))  # it is back
        else:
            queue.append(ticket)
        if user.entry is None:
            self._add_entry(user)

    def _take(self, ticket: Ticket) -> None:
        ticket.user.queue.popleft()

    def _put_back(self, ticket: Ticket) -> None:
        ticket.user.queue.appendleft(ticket)
        self._add_entry(ticket.user)

    def _add_entry(self, user: UserService) -> None:
        head = _head(user)
        if head is not None:
            user.entry = (user.due, user.last_admission, head.arrival, user)
            heappush(self._heap, user.entry)
            if self.tracker.piles_up(len(self._heap)):
                self._throw_out()

    def _throw_out(self) -> None:
        """Drop outdated entries that never come up: of users who are gone, where others are always
        served before."""
        for entry in self._heap:
            if entry[3].entry is entry and _head(entry[3]) is None:
                entry[3].entry = None
        self._heap = [entry for entry in self._heap if entry[3].entry is entry]
        heapify(self._heap)


def _head(user: UserService) -> Ticket | None:
    """Return the oldest of its waiting requests."""
    queue = user.queue
    while queue and not queue[0].waiting:
        queue.popleft()
    return queue[0] if queue else None
