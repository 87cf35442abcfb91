"""What is asked, and what became of it: the same of a real server and of a modelled device."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Ask:
    """One request of a trace. ``at``: seconds; ``answer``: tokens it will produce."""

    at: float
    user: str
    prompt: Sequence[int]
    answer: int


@dataclass
class Served:
    """What became of one request. Seconds from the start of the trace; below 0: never.

    ``admitted``: when its prompt began to be computed, which no client sees.
    """

    ask: Ask
    admitted: float = -1.0
    first_token: float = -1.0
    finished: float = -1.0
    cached: int = 0
    produced: int = 0


@dataclass(frozen=True)
class Scale:
    """How large a scenario is made. ``capacity``: usual requests (``prompt`` and ``answer``
    tokens) that the server finishes in a second under full load; scenarios speak in multiples
    of it, so that the same ones suit a laptop, a GPU and a model of one."""

    seconds: float
    capacity: float
    prompt: int
    answer: int


@dataclass(frozen=True)
class Scenario:
    """``weights``: of users, 1 where not listed. ``victim``: who should not suffer.

    ``backlogged``: users who have more requests waiting than they are served, all the time.
    """

    name: str
    about: str
    asks: tuple[Ask, ...]
    weights: Mapping[str, float] = field(default_factory=dict)
    victim: str | None = None
    backlogged: frozenset[str] = frozenset()

    @property
    def users(self) -> list[str]:
        return sorted({ask.user for ask in self.asks})

    def described(self) -> dict[str, Any]:
        """As the results file has it, but for its figures."""
        return {
            "about": self.about,
            "users": len(self.users),
            "requests": len(self.asks),
            "victim": self.victim,
            "backlogged": sorted(self.backlogged),
        }
