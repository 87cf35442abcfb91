"""The parts of the soak that have a process of their own: imported there, before the engine is."""

from __future__ import annotations

import asyncio
import logging
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from support.one_off.samples import Sample, rss, settle

SAMPLES = 100


def play_tree(users: int) -> dict[str, Any]:
    """So many users on the tree: samples, and what the tree did."""
    from support.one_off.tree import Visitors
    from support.trees import start_group

    logging.disable(logging.WARNING)
    start_group(Path(tempfile.mkdtemp(prefix="one-off-")))
    settle()
    visitors = Visitors()
    samples: list[Sample] = []
    for come in _portions(users, "tree"):
        visitors.come(come)
        samples.append(_sample(samples, come, visitors.counts()))
    visitors.engine.check()
    return {"samples": samples, "happened": visitors.happened()}


def play_http(users: int) -> dict[str, Any]:
    """So many users in an HTTP process: samples, and how many it refused."""
    from support.one_off.http import FrontEnd

    logging.disable(logging.WARNING)
    settle()
    front_end = FrontEnd()
    samples: list[Sample] = []

    async def come() -> None:
        for portion in _portions(users, "http"):
            await front_end.come(portion)
            samples.append(_sample(samples, portion, front_end.counts()))

    asyncio.run(come())
    return {"samples": samples, "refused": front_end.refused}


def _portions(users: int, what: str) -> Iterator[int]:
    for number in range(SAMPLES):
        portion = users * (number + 1) // SAMPLES - users * number // SAMPLES
        yield portion
        if number % 5 == 4:
            done = users * (number + 1) // SAMPLES
            print(f"{what}: {done:,} of {users:,} users", file=sys.stderr, flush=True)


def _sample(before: list[Sample], came: int, counts: dict[str, int]) -> Sample:
    users = before[-1]["users"] if before else 0.0
    return {"users": users + came, "rss": float(rss()), **counts}
