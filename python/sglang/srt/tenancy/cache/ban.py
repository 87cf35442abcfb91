"""Content that may not become public for now, remembered beyond the life of its nodes."""

from __future__ import annotations

import hashlib
from array import array
from collections import OrderedDict
from typing import Any

from sglang.srt.tenancy.user_id import process_key

FOREVER = float("inf")


class Bans:
    """A bounded table of keyed hashes of prefixes: no prompt can be read out of it.

    A banned prefix bans all that begins with it. When the table is full, the entry that was
    added first goes.
    """

    def __init__(self, capacity: int = 65_536):
        self.capacity = capacity
        self._until: OrderedDict[tuple[int, bytes], float] = OrderedDict()
        self._lengths: dict[int, int] = {}  # length of a prefix -> how many entries have it

    def __len__(self) -> int:
        return len(self._until)

    def add(self, extra_key: Any, tokens: array[int], length: int, until: float) -> None:
        """Ban ``tokens[:length]`` up to (not including) the epoch ``until``."""
        entry = (length, _hash(extra_key, tokens, length))
        if entry in self._until:
            self._until[entry] = max(until, self._until[entry])
            return
        if len(self._until) >= self.capacity:
            self._remove(next(iter(self._until)))
        self._until[entry] = until
        self._lengths[length] = self._lengths.get(length, 0) + 1

    def allowed(self, extra_key: Any, tokens: array[int], above: int, end: int, epoch: int) -> int:
        """How far tokens may become public: the longest ``n`` in [above, end] such that no
        banned prefix ends in (above, n]."""
        for length in sorted(n for n in self._lengths if above < n <= end):
            entry = (length, _hash(extra_key, tokens, length))
            until = self._until.get(entry)
            if until is None:
                continue
            if epoch < until:
                return length - 1
            self._remove(entry)
        return end

    def _remove(self, entry: tuple[int, bytes]) -> None:
        del self._until[entry]
        self._lengths[entry[0]] -= 1
        if not self._lengths[entry[0]]:
            del self._lengths[entry[0]]


def _hash(extra_key: Any, tokens: array[int], length: int) -> bytes:
    key = bytes.fromhex(process_key())
    state = hashlib.blake2b(repr(extra_key).encode(), key=key, digest_size=16)
    state.update(tokens[:length].tobytes())
    return state.digest()
