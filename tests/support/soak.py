"""Play for a long time, on all cores, steps that nobody has tried.

python -m support.soak STEPS [SEED]

A play that fails is shortened and printed: ``Play(setting).run(steps)`` plays it again.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import secrets
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from support.faults import Events, find_fault
from support.trees import start_group

STEPS_OF_A_PLAY = 100
PLAYS_OF_A_ROUND = 10


def _start(folder: str) -> None:
    logging.disable(logging.WARNING)
    start_group(Path(folder))


def _round(number: int) -> tuple[Events, str | None]:
    """Some plays: what happened in them, and what went wrong."""
    events: Events = Counter()
    for seed in range(number * PLAYS_OF_A_ROUND, (number + 1) * PLAYS_OF_A_ROUND):
        fault = find_fault(seed, STEPS_OF_A_PLAY, events)
        if fault is not None:
            return events, fault
    return events, None


def main() -> None:
    wanted = int(sys.argv[1])
    first = int(sys.argv[2]) if len(sys.argv) > 2 else secrets.randbelow(10**9)
    cores = len(os.sched_getaffinity(0))
    print(f"{wanted:,} steps on {cores} cores, rounds from {first}", flush=True)
    started, told = time.monotonic(), 0.0
    events: Events = Counter()
    with tempfile.TemporaryDirectory() as folder:
        context = multiprocessing.get_context("spawn")
        with context.Pool(cores, _start, (folder,)) as pool:
            numbers = range(first, first + wanted)  # more than enough: a round is many steps
            for seen, fault in pool.imap_unordered(_round, numbers):
                if fault is not None:
                    sys.exit(fault)
                events += seen
                passed = time.monotonic() - started
                if passed > told + 10 or events["steps"] >= wanted:
                    told = passed
                    print(f"{events['steps']:>9,} steps, {events['steps'] / passed:.0f} a second")
                    sys.stdout.flush()
                if events["steps"] >= wanted:
                    break
    print(", ".join(f"{event.replace('_', ' ')}: {n:,}" for event, n in sorted(events.items())))
    print("no fault found")


if __name__ == "__main__":
    main()
