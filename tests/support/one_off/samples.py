"""Samples of a process while users come and go, and whether they grow."""

from __future__ import annotations

import gc
import statistics
from collections.abc import Collection, Mapping
from typing import Any

import psutil

Sample = dict[str, float]


def settle() -> None:
    """Leave out what is there now of all that looks at each object: it would take a second."""
    gc.collect()
    gc.freeze()


def rss() -> int:
    """Resident bytes of this process, once its garbage is gone."""
    gc.collect()
    return int(psutil.Process().memory_info().rss)


def alive(kind: type) -> int:
    """Objects of exactly this class that are still in memory; not those before ``settle``."""
    gc.collect()
    return sum(type(found) is kind for found in gc.get_objects())


def entries(holder: Any, depth: int = 3) -> int:
    """Entries of all tables and queues that an object has, and of those in them."""
    if isinstance(holder, (str, bytes)) or not depth:
        return 0
    if isinstance(holder, Mapping):
        return len(holder) + sum(entries(value, depth - 1) for value in holder.values())
    if isinstance(holder, (list, set, frozenset)) or (
        isinstance(holder, Collection) and type(holder).__module__ == "collections"
    ):
        return len(holder) + sum(entries(value, depth - 1) for value in holder)
    return sum(
        entries(value, depth - 1)
        for value in getattr(holder, "__dict__", {}).values()
        if isinstance(value, Collection) or type(value).__module__.startswith("sglang.srt.tenancy")
    )


def slope(samples: list[Sample], name: str) -> float:
    """By how much a value grows for each 1,000 users, over the second half of the samples.

    The median of the slopes between all pairs (Theil 1950, Sen 1968): one page that the allocator
    gives back or takes does not bend it.
    """
    half = samples[len(samples) // 2 :]
    slopes = [
        (later[name] - former[name]) / (later["users"] - former["users"])
        for at, former in enumerate(half)
        for later in half[at + 1 :]
    ]
    return 1000 * statistics.median(slopes)
