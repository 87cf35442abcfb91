"""Count the tokens that each owner holds on one tier."""

from __future__ import annotations

import heapq
from itertools import chain, islice

from sglang.srt.tenancy.cache.core.node import PUBLIC


class OwnerSizes(dict[str, int]):
    """Owner -> tokens, of those who hold any; change it by item only.

    Owners of one size are kept together. As sizes that differ add up to what the tier holds,
    there are at most sqrt(2 * capacity) of them, however many owners there are: who holds most
    is found by looking at those.
    """

    def __init__(self) -> None:
        super().__init__()
        self.private = 0  # tokens of all owners together, the public aside
        self._by_size: dict[int, dict[str, None]] = {}

    def __setitem__(self, owner: str, tokens: int) -> None:
        if owner != PUBLIC:
            self._forget(owner)
            self.private += tokens
            self._by_size.setdefault(tokens, {})[owner] = None
        super().__setitem__(owner, tokens)

    def __delitem__(self, owner: str) -> None:
        if owner != PUBLIC:
            self._forget(owner)
        super().__delitem__(owner)

    def _forget(self, owner: str) -> None:
        tokens = self.get(owner)
        if tokens is None:
            return
        self.private -= tokens
        alike = self._by_size[tokens]
        del alike[owner]
        if not alike:
            del self._by_size[tokens]

    def owners(self) -> int:
        """How many hold something, the public aside."""
        return len(self) - (PUBLIC in self)

    def largest(self, number: int) -> list[tuple[str, int]]:
        """The owners who hold most, and their tokens. Of equals, whoever reached that size first:
        every rank counts in the same order."""
        sizes = heapq.nlargest(number, self._by_size)
        ranked = chain.from_iterable(((owner, n) for owner in self._by_size[n]) for n in sizes)
        return list(islice(ranked, number))
