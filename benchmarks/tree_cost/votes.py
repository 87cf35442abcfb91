"""What counting votes takes, beside counting users: the same requests, side by side."""

from __future__ import annotations

import dataclasses
import time
from array import array
from typing import Any

from colluding.server import Server

from sglang.srt.tenancy.cache.core.options import PolicyOptions
from tree_cost.operations import Effort, requests
from tree_cost.subjects import COUNTS, VOTES, Subject
from tree_cost.timing import undisturbed
from tree_cost.traces import Shape

SHAPE = Shape(leaves=10_000, users=100)
PREFIX, VOTERS = 2_000, 4_096  # tokens of a prefix; votes of a window, for as many prefixes


def cost_of_votes(effort: Effort) -> dict[str, Any]:
    """Time the mixed trace, and the end of a window in which everybody voted for something else."""
    with undisturbed():
        subjects = {kind.name: Subject(kind, SHAPE) for kind in (COUNTS, VOTES)}
        for subject in subjects.values():
            subject.fill()
        times = requests(subjects, dataclasses.replace(effort, samples=20 * effort.samples))
    return {
        "us": times.us,
        "ratio": times.ratio[VOTES.name],
        "cached_tokens": {name: subject.cached_tokens for name, subject in subjects.items()},
        "end_of_window_ms": _end_of_window_ms(),
    }


def _end_of_window_ms() -> float:
    window = 2 * VOTERS + 1
    options = PolicyOptions(detector="off-trust-all", promotion="dp", dp_window=window)
    cache = Server(options, b"votes")
    for user in range(VOTERS):
        prefix = array("q", range(user * PREFIX, (user + 1) * PREFIX))
        for way in range(2):
            cache.ask(f"u{user}", prefix + array("q", [-1 - way]))
    started = time.perf_counter()
    cache.end_window(0)
    return (time.perf_counter() - started) * 1e3
