"""Play for a long time, on all cores, steps that nobody has tried.

python -m support.soak STEPS [SEED]
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
from pathlib import Path

import hypothesis
from hypothesis.stateful import run_state_machine_as_test

from support.machine import Plays, many
from support.trees import start_group

STEPS_OF_A_PLAY = 100
PLAYS_OF_A_ROUND = 20


def _start(folder: str) -> None:
    logging.disable(logging.WARNING)
    start_group(Path(folder))


def _round(seed: int) -> tuple[int, int, str | None]:
    """Some plays: the seed, how many steps, and what went wrong."""
    before = Plays.reached["steps"]

    @hypothesis.seed(seed)
    class Round(Plays):
        pass

    try:
        run_state_machine_as_test(
            Round, settings=many(PLAYS_OF_A_ROUND, STEPS_OF_A_PLAY, anew=True)
        )
    except Exception:  # noqa: BLE001 - whatever it is, it is to be told
        return seed, 0, traceback.format_exc()
    return seed, Plays.reached["steps"] - before, None


def main() -> None:
    wanted = int(sys.argv[1])
    first = int(sys.argv[2]) if len(sys.argv) > 2 else secrets.randbelow(10**9)
    cores = len(os.sched_getaffinity(0))
    print(f"{wanted:,} steps on {cores} cores, seeds from {first}", flush=True)
    started, done = time.monotonic(), 0
    with tempfile.TemporaryDirectory() as folder:
        context = multiprocessing.get_context("spawn")
        with context.Pool(cores, _start, (folder,)) as pool:
            seeds = range(first, first + wanted)  # more than enough: a round is many steps
            for seed, steps, fault in pool.imap_unordered(_round, seeds):
                if fault is not None:
                    sys.exit(f"seed {seed}:\n{fault}")
                done += steps
                rate = done / (time.monotonic() - started)
                print(f"{done:>9,} steps, {rate:.0f} a second", flush=True)
                if done >= wanted:
                    break
    print("no fault found")


if __name__ == "__main__":
    main()
