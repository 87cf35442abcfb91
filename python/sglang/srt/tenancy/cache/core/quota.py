"""``cache_share``: how much of a tier may hold what is private to one user."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

# So that a share of 0.29 of 100 tokens, 28.999999999999996, is 29.
_ROUNDING = 1e-6


@dataclass(frozen=True, slots=True)
class CacheShares:
    """Shares in (0, 1] of each tier: user -> share, and that of everybody else (None: no limit).

    Anonymous requests that keep anything are one user (``--tenant-anonymous share``).
    """

    users: Mapping[str, float] = field(default_factory=dict)
    default: float | None = None

    def __bool__(self) -> bool:
        return self.default is not None or bool(self.users)

    def of(self, owner: str) -> float | None:
        return self.users.get(owner, self.default)

    def check(self, capacity: int, page: int) -> None:
        """Raise ValueError for a share of so many tokens that is not even one page."""
        named = {f"users.{user}": share for user, share in self.users.items()}
        if self.default is not None:
            named["default"] = self.default
        for where, share in named.items():
            if _tokens(share, capacity) < page:
                raise ValueError(
                    f"--tenant-config: {where}.cache_share: {share} of {capacity} tokens is less "
                    f"than a page of {page}, so nothing would be kept; give at least "
                    f"{page / capacity:.2g}, or leave it out"
                )


class Quota:
    """What the shares are in tokens of one tier, and who holds more than that."""

    def __init__(self, shares: CacheShares, capacity: int):
        self._shares = shares
        self._capacity = capacity
        # Owners to look at, in the order in which they grew or got a leaf to give.
        self.exceeded: dict[str, None] = {}

    def of(self, owner: str) -> int | None:
        """Tokens that an owner may hold; None is no limit."""
        share = self._shares.of(owner) if owner else None  # what is public is nobody's
        return None if share is None else _tokens(share, self._capacity)

    def watch(self, owner: str, size: int) -> None:
        """The owner holds ``size`` tokens now, or has one more leaf to give."""
        allowed = self.of(owner)
        if allowed is not None and size > allowed:
            self.exceeded[owner] = None


def _tokens(share: float, capacity: int) -> int:
    return int(share * capacity + _ROUNDING)
