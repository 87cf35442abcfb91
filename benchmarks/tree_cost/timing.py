"""Times that can be compared on a machine that is never quiet.

The trees take turns in small batches, so whatever slows the machine down slows all of them.
Ratios are medians over the ratios of batches that ran side by side.
"""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

_FEWEST = 5  # batches, however long they take


@dataclass(frozen=True)
class Times:
    """``us``: which -> median microseconds of one operation. ``ratio``: which -> its time as a
    multiple of the first one's. ``batches``: how many these are medians of."""

    us: dict[str, float]
    ratio: dict[str, float]
    batches: int


@contextmanager
def undisturbed() -> Iterator[None]:
    """No garbage collection: with millions of objects it would be measured instead."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def seconds_each(action: Callable[[Any], Any], arguments: Sequence[Any]) -> float:
    start = time.perf_counter()
    for argument in arguments:
        action(argument)
    return (time.perf_counter() - start) / len(arguments)


def take_turns(
    measures: Mapping[str, Callable[[int], float]], batches: int, seconds: float
) -> Times:
    """Each measure does batch 0, 1, 2... and returns the seconds of one operation.

    Ends after so many batches, or when the time is up and there are enough of them.
    """
    names = list(measures)
    spent: dict[str, list[float]] = {name: [] for name in names}
    end = time.perf_counter() + seconds
    done = 0
    while done < batches and (done < _FEWEST or time.perf_counter() < end):
        first = done % len(names)
        for name in names[first:] + names[:first]:
            spent[name].append(measures[name](done))
        done += 1
    base = spent[names[0]]
    return Times(
        us={name: statistics.median(values) * 1e6 for name, values in spent.items()},
        ratio={
            name: statistics.median(a / b for a, b in zip(spent[name], base, strict=True))
            for name in names[1:]
        },
        batches=done,
    )
