"""Remember which prefixes may not become public, beyond the life of their nodes."""

from __future__ import annotations

import hashlib
from array import array
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sglang.srt.tenancy.user_id import process_key

Words = NDArray[np.uint64]
Fingerprint = tuple[int, int]

_SLOTS_PER_ENTRY = 16  # so that one length in sixteen is looked up in vain


class PromotionBlocklist:
    """Two bounded tables of keyed hashes of prefixes; a blocked prefix blocks all that begins
    with it.

    Sensitive content is blocked until it is forgotten, quarantined content until an epoch. Each
    has a table of its own, of ``capacity`` entries, so that neither can flush the other. What is
    forgotten becomes public only where a detector finds it harmless and enough users hold it.

    A prompt costs one pass over its tokens, whatever the tables hold: at most a
    sixteenth of its lengths, on average, are looked up. Without the key no client can choose
    prompts for which it is more.
    """

    def __init__(self, capacity: int = 65_536):
        self._prefixes = PrefixHash()
        bits = (2 * capacity * _SLOTS_PER_ENTRY - 1).bit_length()
        self._shift = np.uint64(64 - bits)
        # How many entries of both tables have a fingerprint that begins with these bits.
        self._slots: NDArray[np.uint32] = np.zeros(1 << bits, dtype=np.uint32)
        self.sensitive = _Table(capacity, self._count)
        self.quarantined = _Table(capacity, self._count)

    def block(self, extra_key: Any, tokens: array[int], length: int) -> None:
        """Block ``tokens[:length]``, in which a detector found something sensitive."""
        self.sensitive.put(self._fingerprint(extra_key, tokens, length), 0)

    def quarantine(self, extra_key: Any, tokens: array[int], length: int, until: int) -> None:
        """Block ``tokens[:length]`` up to (not including) the epoch ``until``."""
        self.quarantined.put(self._fingerprint(extra_key, tokens, length), until)

    def allowed(self, extra_key: Any, tokens: array[int], above: int, end: int, epoch: int) -> int:
        """How far tokens may become public: the longest ``n`` in [above, end] such that no
        blocked prefix ends in (above, n]."""
        if above >= end or not (len(self.sensitive) or len(self.quarantined)):
            return end
        first, second = (half[above:] for half in self._prefixes.of(extra_key, tokens, end))
        near = np.flatnonzero(self._slots[first >> self._shift])
        for at, *halves in zip(
            near.tolist(), first[near].tolist(), second[near].tolist(), strict=True
        ):
            found: Fingerprint = (halves[0], halves[1])
            if found in self.sensitive:
                return above + int(at)
            until = self.quarantined.get(found)
            if until is None:
                continue
            if epoch < until:
                return above + int(at)
            self.quarantined.remove(found)
        return end

    def _fingerprint(self, extra_key: Any, tokens: array[int], length: int) -> Fingerprint:
        first, second = self._prefixes.of(extra_key, tokens, length)
        return int(first[-1]), int(second[-1])

    def _count(self, fingerprint: Fingerprint, change: int) -> None:
        slot = fingerprint[0] >> int(self._shift)
        self._slots[slot] = int(self._slots[slot]) + change


class _Table:
    """Fingerprints and when they end. When it is full, the entry put longest ago goes."""

    def __init__(self, capacity: int, count: Callable[[Fingerprint, int], None]):
        self.capacity = capacity
        self._count = count
        self._until: OrderedDict[Fingerprint, int] = OrderedDict()

    def __len__(self) -> int:
        return len(self._until)

    def __contains__(self, fingerprint: Fingerprint) -> bool:
        return fingerprint in self._until

    def get(self, fingerprint: Fingerprint) -> int | None:
        return self._until.get(fingerprint)

    def put(self, fingerprint: Fingerprint, until: int) -> None:
        known = self._until.get(fingerprint)
        if known is None:
            if len(self._until) >= self.capacity:
                self.remove(next(iter(self._until)))
            self._count(fingerprint, 1)
        self._until[fingerprint] = until if known is None else max(until, known)
        self._until.move_to_end(fingerprint)

    def remove(self, fingerprint: Fingerprint) -> None:
        del self._until[fingerprint]
        self._count(fingerprint, -1)


class PrefixHash:
    """Hash all prefixes of a prompt in one pass: a keyed sum of its tokens, and a length.

    Twice 64 bits, each the multilinear hash of Carter and Wegman ("Universal classes of hash
    functions", 1979) over tokens of two 32-bit words, modulo 2**64. Without the key nobody can
    find two prefixes that collide: for any two the chance is below 2**-64.
    """

    def __init__(self) -> None:
        key = hashlib.blake2b(b"promotion blocklist", key=bytes.fromhex(process_key())).digest()
        self._key = key
        self._random = np.random.Philox(key=int.from_bytes(key[:16], "little"))
        self._per_length = np.frombuffer(key[16:32], dtype=np.uint64).reshape(2, 1) | np.uint64(1)
        self._factors: Words = np.empty((2, 0), dtype=np.uint64)
        self._lengths: Words = np.empty((2, 0), dtype=np.uint64)

    def of(self, extra_key: Any, tokens: array[int], end: int) -> Words:
        """Two rows: in column ``n - 1`` stands what ``tokens[:n]`` hash to, for n in [1, end]."""
        if self._lengths.shape[1] < end:
            self._grow(end)
        words = np.frombuffer(tokens, dtype=np.uint32, count=2 * end)
        sums = np.cumsum(words * self._factors[:, : 2 * end], axis=1)[:, 1::2]
        start = hashlib.blake2b(repr(extra_key).encode(), key=self._key, digest_size=16).digest()
        hashes: Words = (
            sums + self._lengths[:, :end] + np.frombuffer(start, dtype=np.uint64).reshape(2, 1)
        )
        return hashes

    def _grow(self, end: int) -> None:
        """Have factors for prompts of ``end`` tokens; those there are stay as they are."""
        have = self._lengths.shape[1]
        wanted = max(end, 2 * have, 8192)
        fresh = self._random.random_raw(4 * (wanted - have)).reshape(-1, 2).T
        self._factors = np.concatenate((self._factors, fresh), axis=1)
        self._lengths = np.arange(1, wanted + 1, dtype=np.uint64) * self._per_length
