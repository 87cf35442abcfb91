"""Play again, in a process of its own, and print what the tree decided after each step.

python -m support.replay STEPS SEED...
"""

from __future__ import annotations

import json
import logging
import random
import sys
import tempfile
import time
from pathlib import Path

from support.play import Play, random_play
from support.trees import start_group


def digests(seed: int, steps: int) -> list[str]:
    """The tree's digest after each step of a play."""
    setting, chosen = random_play(seed, steps)
    play = Play(setting)
    play.run(chosen)
    return play.digests


def stagger_clock() -> None:
    """Time goes on in jumps of its own from here: no two runs see the same."""
    real, jumps = time.monotonic, random.SystemRandom()
    offset = 0.0

    def staggering() -> float:
        nonlocal offset
        offset += jumps.choice((0.0, 0.0, 1e-6, 3.0))
        return real() + offset

    time.monotonic = staggering


def main() -> None:
    logging.disable(logging.WARNING)
    steps, *seeds = map(int, sys.argv[1:])
    stagger_clock()
    with tempfile.TemporaryDirectory() as folder:
        start_group(Path(folder))
        print(json.dumps({seed: digests(seed, steps) for seed in seeds}))


if __name__ == "__main__":
    main()
