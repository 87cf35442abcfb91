"""Remember what was scanned before: the marks on a prompt's first chunks, by their content.

The same system prompt comes with every request. It is scanned once, and of a conversation only
what is new.
"""

from __future__ import annotations

import hashlib
import secrets
from array import array
from collections import OrderedDict
from collections.abc import Sequence
from typing import NamedTuple

CHUNK = 64  # tokens


class Mark(NamedTuple):
    """A finding, in tokens: ``ids[start:end]``."""

    start: int
    end: int
    kind: str
    sure: bool


Marks = tuple[Mark, ...]


class ScanCache:
    """A bounded table, last used first kept. Its keys are keyed hashes: no text is in it."""

    def __init__(self, capacity: int = 65_536):
        self.capacity = capacity
        self._secret = secrets.token_bytes(16)
        self._marks: OrderedDict[bytes, Marks] = OrderedDict()

    def __len__(self) -> int:
        return len(self._marks)

    def names(self, ids: Sequence[int]) -> list[bytes]:
        """Name the first chunk, the first two, and so on."""
        raw = array("q", ids).tobytes()
        step = CHUNK * 8
        names, above = [], b""
        for at in range(0, len(raw) // step * step, step):
            state = hashlib.blake2b(above, key=self._secret, digest_size=16)
            state.update(raw[at : at + step])
            above = state.digest()
            names.append(above)
        return names

    def longest(self, names: Sequence[bytes]) -> tuple[int, Marks]:
        """Count the first chunks that are known, and return the marks on them."""
        for count in range(len(names), 0, -1):
            marks = self._marks.get(names[count - 1])
            if marks is not None:
                self._marks.move_to_end(names[count - 1])
                return count, marks
        return 0, ()

    def keep(self, name: bytes, marks: Marks) -> None:
        self._marks[name] = marks
        self._marks.move_to_end(name)
        if len(self._marks) > self.capacity:
            self._marks.popitem(last=False)
