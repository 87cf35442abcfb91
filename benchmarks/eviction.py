"""Whose prefixes should go when memory is short?

    python benchmarks/eviction.py [--quick] [--out DIR]

Plays crowds, scans, loops, conversations and attackers through a real hierarchical cache under
several eviction policies, upstream's and ours among them, and writes eviction.json and eviction.png
into benchmarks/results. Only counts: the same on every machine.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from fair_service.workers import Workers
from report.program import leave, options_of, run
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from eviction_policies.cache_of_policy import DEVICE, EPOCH, HOST
from eviction_policies.comparison import play
from eviction_policies.eviction_figure import draw
from eviction_policies.eviction_targets import as_table, rows, targets
from eviction_policies.mixes import MIXES, SEED
from eviction_policies.policies import POLICIES

FULL, QUICK = 1_500, 500  # requests of each play


def main(arguments: Sequence[str] | None = None) -> int:
    parser = options_of(__doc__, quick="shorter plays, half a minute")
    options = parser.parse_args(arguments)
    results = measure(QUICK if options.quick else FULL)
    results["targets"] = rows(targets(results))
    print(as_table(results))
    leave("eviction", options.out, results, partial(draw, results))
    return 0


def measure(requests: int) -> dict[str, Any]:
    plays = [(mix, policy) for mix in MIXES for policy in POLICIES]
    with (
        tqdm(total=len(plays), desc="plays", disable=None) as bar,
        Workers(lambda _: bar.update()) as workers,
    ):
        going = [
            workers.start(f"{mix.name}, {policy}", play, mix.name, policy, requests)
            for mix, policy in plays
        ]
        rows = [each.result() for each in going]
    return {
        "seed": SEED,
        "requests": requests,
        "device_tokens": DEVICE,
        "host_tokens": HOST,
        "epoch_requests": EPOCH,
        "rows": rows,
    }


if __name__ == "__main__":
    run(main)
