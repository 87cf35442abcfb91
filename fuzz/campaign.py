"""Attack our own server with requests that no honest client sends.

    python fuzz/campaign.py [--cases N] [--minutes M] [--seed S]

As one user with an ordinary key; a second one must be answered as before, by the same processes,
and no answer may be a 500 or tell of the inside. What is found is minimized to one case and
added to fuzz/found.jsonl, which the tests replay. Exit code 1 if anything was found.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import random
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from tqdm import tqdm

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "scripts")]

from attack import Target, target  # noqa: E402
from endpoints import Case, mutated  # noqa: E402

FOUND = Path(__file__).with_name("found.jsonl")
GROUP = 32


def main() -> int:
    """Run the campaign; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--cases", type=int, default=20_000)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    drawn = random.Random(asked.seed)
    deadline = time.monotonic() + 60 * asked.minutes
    sent = found = 0
    with tempfile.TemporaryDirectory() as folder, tqdm(total=asked.cases, unit="case") as shown:
        while sent < asked.cases and time.monotonic() < deadline:
            with target(Path(folder)) as attacked:
                healthy = True
                while healthy and sent < asked.cases and time.monotonic() < deadline:
                    group = [mutated(drawn) for _ in range(GROUP)]
                    fault = attacked.fault_of(group)
                    sent += len(group)
                    shown.update(len(group))
                    if fault:
                        found += 1
                        healthy = attacked.harm() is None
                        shown.write(f"found: {fault}")
                        record(*minimized(group, fault, attacked, Path(folder)))
    print(f"{sent} cases, seed {asked.seed}: {found} groups with a fault")
    return 1 if found else 0


def minimized(
    group: Sequence[Case], fault: str, attacked: Target, folder: Path
) -> tuple[Sequence[Case], str]:
    """Return as few of the cases as show a fault, on a new server where this one is harmed."""

    def shows(cases: Sequence[Case]) -> str | None:
        if attacked.harm() is None:
            return attacked.fault_of(cases)
        with target(folder) as fresh:
            return fresh.fault_of(cases)

    return smallest(group, fault, shows)


def smallest(
    cases: Sequence[Case], fault: str, shows: Callable[[Sequence[Case]], str | None]
) -> tuple[Sequence[Case], str]:
    """Halve the cases as long as one half still shows a fault."""
    while len(cases) > 1:
        middle = len(cases) // 2
        for half in (cases[:middle], cases[middle:]):
            if said := shows(half):
                cases, fault = half, said
                break
        else:
            break  # only together
    return cases, fault


def record(cases: Sequence[Case], fault: str) -> None:
    with FOUND.open("a") as found:
        for case in cases:
            found.write(json.dumps({**dataclasses.asdict(case), "fault": fault}) + "\n")


if __name__ == "__main__":
    sys.exit(main())
