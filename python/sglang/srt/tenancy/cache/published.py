"""The prefixes that an operator declared public."""

from __future__ import annotations

from array import array
from collections.abc import Sequence

from sglang.srt.tenancy.cache.tree import common_prefix


class Published:
    """Token sequences, found by their first page."""

    def __init__(self, page_size: int):
        self.page_size = page_size
        self._by_page: dict[tuple[int, ...], list[array[int]]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._by_page.values()))

    def add(self, tokens: Sequence[int]) -> None:
        """Idempotent. Raises ValueError if there is not one whole page."""
        sequence = self._whole_pages(tokens)
        same_page = self._by_page.setdefault(self._page(sequence), [])
        if sequence not in same_page:
            same_page.append(sequence)

    def remove(self, tokens: Sequence[int]) -> array[int]:
        """Returns what was removed. Raises ValueError if it was not there."""
        sequence = self._whole_pages(tokens)
        page = self._page(sequence)
        same_page = self._by_page.get(page, [])
        if sequence not in same_page:
            raise ValueError("tokens: no published prefix has these tokens")
        same_page.remove(sequence)
        if not same_page:
            del self._by_page[page]
        return sequence

    def covers(self, tokens: array[int], end: int) -> int:
        """How many of the first ``end`` tokens, in whole pages, begin a published prefix."""
        if not self._by_page:
            return 0
        longest = max(
            (
                common_prefix(sequence, tokens, 0, end)
                for sequence in self._by_page.get(self._page(tokens), ())
            ),
            default=0,
        )
        return longest // self.page_size * self.page_size

    def _page(self, tokens: array[int]) -> tuple[int, ...]:
        return tuple(tokens[: self.page_size])

    def _whole_pages(self, tokens: Sequence[int]) -> array[int]:
        end = len(tokens) // self.page_size * self.page_size
        if not end:
            raise ValueError(
                f"tokens: {len(tokens)} of them do not fill a page of {self.page_size}"
            )
        return array("q", tokens[:end])
