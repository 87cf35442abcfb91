"""From a long list of steps that fails to a short one that fails in the same way.

Hypothesis has no good way to ask for long lists and to shrink them to short ones; this takes
seconds.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from support.play import Step


def shrink(
    steps: Sequence[Step], failure: Callable[[Sequence[Step]], str | None], seconds: float = 60.0
) -> list[Step]:
    """Leave out steps, and make numbers smaller, while ``failure`` stays the same."""
    best = list(steps)
    wanted = failure(best)
    deadline = time.monotonic() + seconds  # a failing test may take its time, not for ever

    def fails(candidate: Sequence[Step]) -> bool:
        return time.monotonic() < deadline and failure(candidate) == wanted

    size = len(best) // 2
    while size:
        at = len(best)
        while at > 0:
            at -= size
            candidate = best[: max(at, 0)] + best[max(at, 0) + size :]
            if fails(candidate):
                best = candidate
        size //= 2
    for at, step in enumerate(best):
        for place, number in enumerate(step[1:], 1):
            for smaller in () if not number else _smaller(number):
                candidate = [*best]
                candidate[at] = (*best[at][:place], smaller, *best[at][place + 1 :])
                if fails(candidate):
                    best = candidate
                    break
    return best


def _smaller(number: int | tuple[int, ...]) -> tuple[object, ...]:
    return ((), number[:1]) if isinstance(number, tuple) else (0, number // 2, number - 1)
