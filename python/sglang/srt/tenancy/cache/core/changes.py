"""Remember what lately changed in a tree, for operators who watch. Nothing is decided by it."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Literal

from sglang.srt.tenancy.user_id import digest

KEPT = 256

Kind = Literal["promoted", "demoted", "quarantined", "merged", "erased", "expired"]


@dataclass(frozen=True, slots=True)
class Change:
    """``number``: counts from 1, over flushes. ``owner``: a hash; None where it is nobody's."""

    number: int
    kind: Kind
    epoch: int
    tokens: int
    owner: str | None


class RecentChanges:
    """The last ones. Owners are kept as their hash: an erased user's name is nowhere in here."""

    def __init__(self, kept: int = KEPT):
        self.noted = 0  # changes so far
        self._last: deque[Change] = deque(maxlen=kept)

    def note(self, kind: Kind, epoch: int, tokens: int, owner: str = "") -> None:
        self.noted += 1
        whose = digest(owner) if owner else None
        self._last.append(Change(self.noted, kind, epoch, tokens, whose))

    def since(self, number: int) -> list[Change]:
        """Return those after the given one, as far as they are kept; the oldest first."""
        first = self._last[0].number if self._last else 0
        return list(self._last)[max(0, number - first + 1) :]
