"""Count how many requests of one caller this process has open at a time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from sglang.srt.tenancy.errors import RequestError


class OpenRequests:
    """Counts open requests by caller, from their headers to the last byte of their answers.

    A caller is the user whom a key or a gateway names, or the address that a request came from.
    """

    def __init__(self, most: int):
        self.most = most
        self._open: Counter[str] = Counter()

    @contextmanager
    def counted(self, caller: str) -> Iterator[None]:
        """Count a request inside the with statement. Raises RequestError 429 for one too many."""
        if self._open[caller] >= self.most:
            raise RequestError(
                429,
                "max_connections",
                f"max_connections: {self.most} requests are open; wait for some to end",
            )
        self._open[caller] += 1
        try:
            yield
        finally:
            self._open[caller] -= 1
            if not self._open[caller]:
                del self._open[caller]

    def __len__(self) -> int:
        return len(self._open)

    @property
    def total(self) -> int:
        """How many requests of all callers are open."""
        return self._open.total()
