"""Deficit longest prefix match ("Locality-aware Fair Scheduling in LLM Serving", 2025).

The next request is the one with the longest prefix in the cache, among users who have some
of their quantum left. Only when nobody who waits has any, everybody gets another quantum.

A deficit is how far a user's counter is below ``level``, which all users share and which
rises by a quantum. So nothing has to be handed out to those who are not there, and a user
who comes back has at most one quantum saved up.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from heapq import heapify, heappop, heappush, heapreplace
from typing import TYPE_CHECKING, Any

from sglang.srt.managers.schedule_policy import CacheAwarePolicy, match_prefix_for_req
from sglang.srt.tenancy.schedule.fair_policy import FairPolicy
from sglang.srt.tenancy.schedule.service_tracker import Ticket, UserService

if TYPE_CHECKING:
    from sglang.srt.managers.schedule_batch import Req

# Up to this many waiting requests each round matches all of them, as upstream's lpm does.
EXACT = 128
# Above, this many a round, one after the other; the others keep the length last found.
MATCHES = 3

Rank = tuple[float, int, Ticket]  # minus the matched tokens, arrival
HeapEntry = tuple[float, int, UserService]  # the same of its best request


class DeficitLongestPrefixMatch(FairPolicy):
    """``--schedule-policy dlpm``"""

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self._quantum: float = kwargs["options"].tenant_dlpm_quantum
        self._level = self._quantum
        # One valid entry per user that waits and has deficit left, ``user.entry``.
        self._heap: list[HeapEntry] = []
        self._spent: dict[UserService, None] = {}  # those that wait and have none
        self._sweep: deque[Ticket] = deque()  # whom to match next

    def _floor(self) -> float:
        """Begin a new quantum where nobody waits, at what the last one had."""
        least = self._level - self._quantum
        if self._last is None or self.tracker.waiting:
            return least
        return max(least, self._last.counter)

    def _open(self, waiting: Sequence[Req]) -> None:
        super()._open(waiting)
        if len(waiting) <= EXACT:
            self._match_all(waiting)
        else:
            self._match_some()

    def _match_all(self, waiting: Sequence[Req]) -> None:
        """Match as upstream does: it puts off all but one of those that share a beginning."""
        self._sweep.clear()
        put_off = self._compute_prefix_matches(list(waiting), CacheAwarePolicy.LPM)
        for req in waiting:
            ticket = self.tracker.tickets[req]
            self._sweep.append(ticket)
            self._rank(ticket, math.inf if req.rid in put_off else -req.num_matched_prefix_tokens)

    def _match_some(self) -> None:
        sweep = self._sweep
        for _ in range(min(MATCHES, len(sweep))):
            ticket = sweep.popleft()
            if ticket.waiting:
                match_prefix_for_req(self.tree_cache, ticket.req, include_req=True)
                self._rank(ticket, -ticket.req.num_matched_prefix_tokens)
                sweep.append(ticket)

    def _rank(self, ticket: Ticket, key: float) -> None:
        if ticket.rank is not None and ticket.rank[0] == key:
            return
        user = ticket.user
        if len(user.ranked) > 2 * user.waiting + 16:  # most of them are outdated
            user.ranked = [rank for rank in user.ranked if rank[2].rank is rank]
            heapify(user.ranked)
        ticket.rank = (key, ticket.arrival, ticket)
        heappush(user.ranked, ticket.rank)
        self._add_entry(user)

    def _choose(self) -> Ticket | None:
        while True:
            while self._heap:
                ticket = self._settle_top()
                if ticket is not None:
                    return ticket
            if not self._refill():
                return None

    def _settle_top(self) -> Ticket | None:
        """Return the best request, if the heap's first entry is right; else set it right."""
        heap = self._heap
        entry = heap[0]
        user = entry[2]
        valid = user.entry is entry and user is not self._excluded
        best = _best(user) if valid else None
        if best is None:
            if user.entry is entry:
                user.entry = None
            heappop(heap)
        elif user.due >= self._level:
            user.entry = None
            self._spent[user] = None
            heappop(heap)
            if self.tracker.piles_up(len(self._spent)):
                self._spent = {a: None for a in self._spent if _best(a) is not None}
        elif entry[:2] == best.rank[:2]:
            return best
        else:
            user.entry = (*best.rank[:2], user)
            heapreplace(heap, user.entry)
        return None

    def _refill(self) -> bool:
        """Raise the level until somebody who waits is below it. False where nobody waits."""
        spent = [a for a in self._spent if a is not self._excluded and _best(a) is not None]
        self._spent.clear()
        if not spent:
            return False
        least = min(user.due for user in spent)
        if least >= self._level:
            self._level += self._quantum * (1 + (least - self._level) // self._quantum)
        for user in spent:
            self._add_entry(user)
        return True

    def _add(self, ticket: Ticket) -> None:
        ticket.rank = None
        self._rank(ticket, 0)
        self._sweep.appendleft(ticket)
        if self.tracker.piles_up(len(self._sweep)):
            # Those that were served, and second entries of those that are back.
            self._sweep = deque(dict.fromkeys(t for t in self._sweep if t.waiting))

    def _take(self, ticket: Ticket) -> None:
        ticket.rank = None

    def _put_back(self, ticket: Ticket) -> None:
        self._rank(ticket, -ticket.req.num_matched_prefix_tokens)

    def _add_entry(self, user: UserService) -> None:
        best = _best(user)
        if best is not None and (user.entry is None or user.entry[:2] != best.rank[:2]):
            self._spent.pop(user, None)
            user.entry = (*best.rank[:2], user)
            heappush(self._heap, user.entry)
            if self.tracker.piles_up(len(self._heap)):
                self._throw_out()

    def _throw_out(self) -> None:
        """Drop outdated entries that never come up: of users who are gone, where others are always
        served before."""
        for entry in self._heap:
            if entry[2].entry is entry and _best(entry[2]) is None:
                entry[2].entry = None
        self._heap = [entry for entry in self._heap if entry[2].entry is entry]
        heapify(self._heap)


def _best(user: UserService) -> Ticket | None:
    """Return of its waiting requests the one with the longest match, and of those the oldest."""
    ranked: list[Rank] = user.ranked
    while ranked and not (ranked[0][2].waiting and ranked[0][2].rank is ranked[0]):
        heappop(ranked)
    return ranked[0][2] if ranked else None
