"""Attack our own server with requests that no honest client sends.

    python fuzz/campaign.py [--cases N] [--minutes M] [--seed S] [--summary FILE]

As two users with ordinary keys; a third one must be answered as before, by the same processes,
nothing of what was asked may be left, and no answer may be a 500 or tell of the inside. What is
found is minimized and added to fuzz/found.jsonl, which the tests replay. The last line is a summary
in JSON. Exit code 1 if anything was found.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import random
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any

from tqdm import tqdm

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "scripts")]

from attack import Target, target  # noqa: E402
from cases import Case, read  # noqa: E402
from endpoints import ENDPOINTS  # noqa: E402
from minimize import smallest  # noqa: E402
from mutate import drawn  # noqa: E402
from openapi import cases_of  # noqa: E402

FOUND = Path(__file__).with_name("found.jsonl")
GROUP = 32
# Cases of each operation that schemathesis draws, as the document says and as it does not; slowly.
OF_EACH = 3
# Tries of a smaller version of a fault; where each ends the server, starts of one.
_TRIES, _STARTS = 200, 12


@dataclasses.dataclass
class Campaign:
    """What a campaign has done so far."""

    seed: int
    cases: int
    deadline: float
    sent: int = 0
    faults: list[str] = dataclasses.field(default_factory=list)
    answers: Counter[tuple[str, str]] = dataclasses.field(default_factory=Counter)
    memory: list[dict[str, int]] = dataclasses.field(default_factory=list)

    @property
    def over(self) -> bool:
        return self.sent >= self.cases or time.monotonic() > self.deadline

    def attack(self, attacked: Target, folder: Path, cases: Iterator[Case], shown: Any) -> None:
        """Send groups of cases until the server is not what it was, or the campaign is over."""
        self.memory.append(attacked.memory())
        while not self.over:
            group = list(islice(cases, GROUP))
            fault = attacked.fault_of(group)
            self.sent += len(group)
            shown.update(len(group))
            if fault:
                self.faults.append(fault)
                shown.write(f"found: {fault}")
                record(*minimized(group, fault, attacked, folder))
                if attacked.harm() is not None:
                    break
        self.answers += attacked.answers
        self.memory.append(attacked.memory())

    def summary(self, seconds: float) -> dict[str, Any]:
        """Say what was sent, what came back, and what the first and last processes held (MiB)."""
        by_path: defaultdict[str, dict[str, int]] = defaultdict(dict)
        seldom: Counter[str] = Counter()
        for (path, kind), count in sorted(self.answers.items()):
            by_path[path][kind] = count
        for path in [path for path, kinds in by_path.items() if sum(kinds.values()) < 5]:
            seldom.update(by_path.pop(path))
        return {
            "seed": self.seed,
            "cases": self.sent,
            "seconds": round(seconds),
            "groups_with_a_fault": len(self.faults),
            "faults": self.faults,
            "answers": {**by_path, "other paths": dict(seldom)},
            "memory_mib": {"first": self.memory[0], "last": self.memory[-1]},
        }


def main() -> int:
    """Run the campaign; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--cases", type=int, default=20_000)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--summary", type=Path, help="a file for the summary, instead of stdout")
    asked = parser.parse_args()
    began = time.monotonic()
    campaign = Campaign(asked.seed, asked.cases, began + 60 * asked.minutes)
    cases = chain(from_openapi(OF_EACH, asked.seed), endless(random.Random(asked.seed)))
    with tempfile.TemporaryDirectory() as folder, tqdm(total=asked.cases, unit="case") as shown:
        while not campaign.over:
            with target(Path(folder)) as attacked:
                campaign.attack(attacked, Path(folder), cases, shown)
    summary = json.dumps(campaign.summary(time.monotonic() - began))
    if asked.summary:
        asked.summary.write_text(summary + "\n")
    else:
        print(summary)
    return 1 if campaign.faults else 0


def from_openapi(number: int, seed: int) -> Iterator[Case]:
    """Draw so many cases of each operation and kind from the document that the server shows."""
    from sglang.srt.entrypoints.http_server import app

    routes = {(method, point.path) for point in ENDPOINTS for method in point.methods}
    return cases_of(app.openapi(), routes, number, seed)


def endless(source: random.Random) -> Iterator[Case]:
    """Draw cases of ours."""
    while True:
        yield drawn(source)


def minimized(
    group: Sequence[Case], fault: str, attacked: Target, folder: Path
) -> tuple[Sequence[Case], str]:
    """Return the few cases that show a fault, and it; the whole group where only all together do.

    On the same server where that still serves, else on fresh ones.
    """
    left = {"tries": _TRIES, "starts": _STARTS}

    def shows(cases: Sequence[Case]) -> str | None:
        left["tries"] -= 1
        if left["tries"] < 0:
            return None
        if attacked.harm() is None:
            return attacked.fault_of(cases)
        left["starts"] -= 1
        if left["starts"] < 0:
            return None
        with target(folder) as fresh:
            return fresh.fault_of(cases)

    return smallest(group, fault, shows)


def record(cases: Sequence[Case], fault: str) -> None:
    """Add what was found to the cases that are replayed."""
    entry = {"cases": [case.without_defaults() for case in cases], "fault": fault}
    with FOUND.open("a") as found:
        found.write(json.dumps(entry) + "\n")


def recorded() -> list[tuple[list[Case], str]]:
    """Return what was ever found: the cases, and what was wrong."""
    entries = [json.loads(line) for line in FOUND.read_text().splitlines()]
    return [([read(case) for case in entry["cases"]], entry["fault"]) for entry in entries]


if __name__ == "__main__":
    sys.exit(main())
