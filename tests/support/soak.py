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
import traceback
from collections import Counter
from pathlib import Path

from support.engine import Setting
from support.play import Play, Step, random_play
from support.trees import start_group

STEPS_OF_A_PLAY = 100
PLAYS_OF_A_ROUND = 10

Events = Counter[str]


def _start(folder: str) -> None:
    logging.disable(logging.WARNING)
    start_group(Path(folder))


def _round(number: int) -> tuple[Events, str | None]:
    """Some plays: what happened in them, and what went wrong."""
    events: Events = Counter()
    for seed in range(number * PLAYS_OF_A_ROUND, (number + 1) * PLAYS_OF_A_ROUND):
        setting, steps = random_play(seed, STEPS_OF_A_PLAY)
        fault = _fault(setting, steps, events)
        if fault is not None:
            shortest = _shortened(setting, steps)
            return events, f"seed {seed}: {setting}\n{shortest}\n{_fault(setting, shortest)}"
    return events, None


def _fault(setting: Setting, steps: list[Step], events: Events | None = None) -> str | None:
    """Play; the traceback if it failed."""
    play = Play(setting)
    try:
        play.run(steps)
    except Exception:  # noqa: BLE001 - whatever it is, it is to be told
        return traceback.format_exc()
    if events is not None:
        events["steps"] += play.steps
        events["late verdicts"] += play.late
        events["fetched pages"] += play.fetched
        events["loaded tokens"] += play.engine.loaded
        events.update(play.engine.cache.counts)
    return None


def _shortened(setting: Setting, steps: list[Step]) -> list[Step]:
    """Leave out steps, many at a time and then fewer, as long as the play still fails."""
    size = len(steps) // 2
    while size:
        start = 0
        while start < len(steps):
            fewer = steps[:start] + steps[start + size :]
            if _fault(setting, fewer) is not None:
                steps = fewer
            else:
                start += size
        size //= 2
    return steps


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
