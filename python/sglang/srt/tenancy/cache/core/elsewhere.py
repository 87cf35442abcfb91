"""Remember, by keyed hashes alone, what other replicas made public, and what any took back."""

from __future__ import annotations

import hashlib
from array import array
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from sglang.srt.tenancy.cache.core.promotion_blocklist import PrefixHash, Words
from sglang.srt.tenancy.user_id import process_key

# A prefix: how many tokens it has, and their hash (16 bytes), which replicas of one process key
# have in common.
HashedPrefix = tuple[int, bytes]

CAPACITY = 2048  # prefixes of a table


class Elsewhere:
    """``public``: prefixes that another replica found harmless and shared. ``demoted``,
    ``demoted_here``: prefixes that another one, or this one, made private again: nothing that
    begins with one becomes public by others' word.

    Where no replica has told anything, a prompt costs nothing here. Otherwise it is hashed once,
    and once more for each length that the tables hold.
    """

    def __init__(self, page_size: int):
        self.public = _Table()
        self.demoted = _Table()
        self.demoted_here = _Table()
        self._page_size = page_size
        self._prefixes = PrefixHash()
        key = hashlib.blake2b(b"public elsewhere", key=bytes.fromhex(process_key())).digest()
        self._sealer = hashlib.blake2b(key=key, digest_size=16)

    def hashes(
        self, extra_key: Any, tokens: array[int], lengths: Sequence[int]
    ) -> list[HashedPrefix]:
        """Hash the prefixes of these lengths, in one pass over the tokens."""
        if not lengths:
            return []
        return list(self._seal(self._prefixes.of(extra_key, tokens, max(lengths)), lengths))

    def _seal(self, sums: Words, lengths: Sequence[int]) -> Iterator[HashedPrefix]:
        """Hide the sums: from several of them a reader could compute the key they are made by."""
        at = np.array(lengths, dtype=np.uint64)
        content = np.stack((at, *sums[:, at - 1]), axis=1).astype("<u8").tobytes()
        size = len(content) // max(1, len(lengths))
        for number, length in enumerate(lengths):
            sealed = self._sealer.copy()
            sealed.update(content[number * size : (number + 1) * size])
            yield length, sealed.digest()

    def learn(
        self, public: Iterable[HashedPrefix], demoted: Iterable[HashedPrefix]
    ) -> tuple[int, int]:
        """Take over what other replicas say. Returns how many of each were new. Prefixes that do
        not fill whole pages here are left out."""
        return self._put(self.public, public), self._put(self.demoted, demoted)

    def _put(self, table: _Table, prefixes: Iterable[HashedPrefix]) -> int:
        usable = (prefix for prefix in prefixes if prefix[0] % self._page_size == 0)
        return sum(table.put(prefix) for prefix in usable)

    def demote(self, extra_key: Any, tokens: array[int], length: int) -> None:
        """Remember that ``tokens[:length]`` was made private again here."""
        self.demoted_here.put(self.hashes(extra_key, tokens, [length])[0])

    def covers(self, extra_key: Any, tokens: array[int], above: int, end: int) -> int:
        """Find how far tokens are public elsewhere: the longest such prefix in (above, end] that
        begins with nothing demoted; ``above`` where there is none."""
        if not self.public:
            return above
        lengths = self.public.lengths(above, end)
        if not lengths:
            return above
        sums = self._prefixes.of(extra_key, tokens, lengths[-1])
        public = [prefix[0] for prefix in self._seal(sums, lengths) if prefix in self.public]
        if not public:
            return above
        for table in (self.demoted, self.demoted_here):
            first = self._first(table, sums, public[-1])
            public = [length for length in public if first is None or length < first]
            if not public:
                return above
        return public[-1]

    def allowed(self, extra_key: Any, tokens: array[int], above: int, end: int) -> int:
        """Find how far tokens begin with nothing that another replica demoted: in [above, end]."""
        lengths = self.demoted.lengths(0, end)
        if not lengths:
            return end
        first = self._first(self.demoted, self._prefixes.of(extra_key, tokens, lengths[-1]), end)
        return end if first is None else max(above, first - 1)

    def _first(self, table: _Table, sums: Words, end: int) -> int | None:
        """Find the shortest of a prompt's first ``end`` tokens that are in a table."""
        hashed = self._seal(sums, table.lengths(0, end))
        return next((prefix[0] for prefix in hashed if prefix in table), None)


class _Table:
    """Hashed prefixes. When it is full, the one heard of longest ago goes."""

    def __init__(self) -> None:
        self._prefixes: OrderedDict[HashedPrefix, None] = OrderedDict()
        self._number: dict[int, int] = {}  # of prefixes of each length

    def __len__(self) -> int:
        return len(self._prefixes)

    def __contains__(self, prefix: HashedPrefix) -> bool:
        return prefix in self._prefixes

    def __iter__(self) -> Iterator[HashedPrefix]:
        return iter(self._prefixes)

    def lengths(self, above: int, end: int) -> list[int]:
        """Return the lengths in (above, end] that some prefix has, shortest first."""
        return sorted(length for length in self._number if above < length <= end)

    def put(self, prefix: HashedPrefix) -> bool:
        """Tell whether it is new."""
        new = prefix not in self._prefixes
        if new:
            if len(self._prefixes) >= CAPACITY:
                oldest, _ = self._prefixes.popitem(last=False)
                self._count(oldest[0], -1)
            self._count(prefix[0], 1)
        self._prefixes[prefix] = None
        self._prefixes.move_to_end(prefix)
        return new

    def _count(self, length: int, change: int) -> None:
        self._number[length] = self._number.get(length, 0) + change
        if not self._number[length]:
            del self._number[length]
