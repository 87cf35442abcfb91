"""Play for a long time, on all cores, with seeds that nobody has tried.

python -m support.soak STEPS [FIRST_SEED]
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import secrets
import sys
import tempfile
import time
from pathlib import Path

from support.play import failure, random_play
from support.shrink import shrink
from support.trees import start_group

STEPS_OF_A_PLAY = 160


def _start(folder: str) -> None:
    logging.disable(logging.WARNING)
    start_group(Path(folder))


def _play(seed: int) -> tuple[int, str | None]:
    setting, steps = random_play(seed, STEPS_OF_A_PLAY)
    fault = failure(setting, steps)
    if fault is None:
        return seed, None
    shortest = shrink(steps, lambda candidate: failure(setting, candidate))
    return seed, f"{fault}\n    {setting!r}\n    {shortest!r}"


def main() -> None:
    steps = int(sys.argv[1])
    first = int(sys.argv[2]) if len(sys.argv) > 2 else secrets.randbelow(10**9)
    plays = -(-steps // STEPS_OF_A_PLAY)
    cores = len(os.sched_getaffinity(0))
    print(f"{plays} plays of {STEPS_OF_A_PLAY} steps on {cores} cores, seeds from {first}")
    started = shown = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        context = multiprocessing.get_context("spawn")
        with context.Pool(cores, _start, (folder,), maxtasksperchild=500) as pool:
            seeds = range(first, first + plays)
            for done, (seed, fault) in enumerate(pool.imap_unordered(_play, seeds, 8), 1):
                if fault is not None:
                    sys.exit(f"seed {seed}: {fault}")
                if time.monotonic() - shown > 10 or done == plays:
                    shown = time.monotonic()
                    rate = done * STEPS_OF_A_PLAY / (shown - started)
                    print(f"{done * STEPS_OF_A_PLAY:>9,} steps, {rate:.0f} a second", flush=True)
    print("no fault found")


if __name__ == "__main__":
    main()
