"""Deficit longest prefix match ("Locality-aware Fair Scheduling in LLM Serving", 2025).

The turn is of the request with the longest prefix in the cache, among users who have some
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
from sglang.srt.tenancy.schedule.service_tracker import Account, Ticket

if TYPE_CHECKING:
    from sglang.srt.managers.schedule_batch import Req

# Up to this many waiting requests each round matches all of them, as upstream's lpm does.
EXACT = 128
# Above, this many a round, in turn; the others keep the length they were last found with.
MATCHES = 3

Rank = tuple[float, int, Ticket]  # minus the matched tokens, arrival
Turn = tuple[float, int, Account]  # the same of its best request


class DeficitLongestPrefixMatch(FairPolicy):
    """``--schedule-policy dlpm``"""

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self._quantum: float = kwargs["options"].tenant_dlpm_quantum
        self._level = self._quantum
        # One valid entry per account that waits and has deficit left, ``account.turn``.
        self._heap: list[Turn] = []
        self._spent: dict[Account, None] = {}  # those that wait and have none
        self._sweep: deque[Ticket] = deque()  # whom to match next

    def _floor(self) -> float:
        """Where nobody waits, a new round of turns begins, at what the last one had."""
        least = self._level - self._quantum
        if self._last is None or self.ledger.waiting:
            return least
        return max(least, self._last.counter)

    def _open(self, waiting: Sequence[Req]) -> None:
        super()._open(waiting)
        if len(waiting) <= EXACT:
            self._match_all(waiting)
        else:
            self._match_some()

    def _match_all(self, waiting: Sequence[Req]) -> None:
        """Upstream's match, which also puts off all but one of those that share a beginning."""
        self._sweep.clear()
        put_off = self._compute_prefix_matches(list(waiting), CacheAwarePolicy.LPM)
        for req in waiting:
            ticket = self.ledger.tickets[req]
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
        account = ticket.account
        if len(account.ranked) > 2 * account.waiting + 16:  # most of them are outdated
            account.ranked = [rank for rank in account.ranked if rank[2].rank is rank]
            heapify(account.ranked)
        ticket.rank = (key, ticket.arrival, ticket)
        heappush(account.ranked, ticket.rank)
        self._add_turn(account)

    def _choose(self) -> Ticket | None:
        while True:
            while self._heap:
                ticket = self._settle_top()
                if ticket is not None:
                    return ticket
            if not self._refill():
                return None

    def _settle_top(self) -> Ticket | None:
        """The best request, if the first entry of the heap is right; else set it right."""
        heap = self._heap
        entry = heap[0]
        account = entry[2]
        valid = account.turn is entry and account is not self._without
        best = _best(account) if valid else None
        if best is None:
            if account.turn is entry:
                account.turn = None
            heappop(heap)
        elif account.due >= self._level:
            account.turn = None
            self._spent[account] = None
            heappop(heap)
            if self.ledger.piles_up(len(self._spent)):
                self._spent = {a: None for a in self._spent if _best(a) is not None}
        elif entry[:2] == best.rank[:2]:
            return best
        else:
            account.turn = (*best.rank[:2], account)
            heapreplace(heap, account.turn)
        return None

    def _refill(self) -> bool:
        """Raise the level until somebody who waits is below it. False where nobody waits."""
        spent = [a for a in self._spent if a is not self._without and _best(a) is not None]
        self._spent.clear()
        if not spent:
            return False
        least = min(account.due for account in spent)
        if least >= self._level:
            self._level += self._quantum * (1 + (least - self._level) // self._quantum)
        for account in spent:
            self._add_turn(account)
        return True

    def _add(self, ticket: Ticket) -> None:
        ticket.rank = None
        self._rank(ticket, 0)
        self._sweep.appendleft(ticket)
        if self.ledger.piles_up(len(self._sweep)):
            # Those that were served, and second entries of those that are back.
            self._sweep = deque(dict.fromkeys(t for t in self._sweep if t.waiting))

    def _take(self, ticket: Ticket) -> None:
        ticket.rank = None

    def _put_back(self, ticket: Ticket) -> None:
        self._rank(ticket, -ticket.req.num_matched_prefix_tokens)

    def _add_turn(self, account: Account) -> None:
        best = _best(account)
        if best is not None and (account.turn is None or account.turn[:2] != best.rank[:2]):
            self._spent.pop(account, None)
            account.turn = (*best.rank[:2], account)
            heappush(self._heap, account.turn)
            if self.ledger.piles_up(len(self._heap)):
                self._throw_out()

    def _throw_out(self) -> None:
        """Outdated entries that never come up: of users who are gone, where others are always
        served before."""
        for entry in self._heap:
            if entry[2].turn is entry and _best(entry[2]) is None:
                entry[2].turn = None
        self._heap = [entry for entry in self._heap if entry[2].turn is entry]
        heapify(self._heap)


def _best(account: Account) -> Ticket | None:
    """Of its waiting requests the one with the longest match, and of those the oldest."""
    ranked: list[Rank] = account.ranked
    while ranked and not (ranked[0][2].waiting and ranked[0][2].rank is ranked[0]):
        heappop(ranked)
    return ranked[0][2] if ranked else None
