"""Whose prefixes should go when memory is short?

    python benchmarks/eviction.py [--quick] [--out DIR]

Plays crowds, scans, loops, conversations and attackers through a real hierarchical cache under
several eviction policies, upstream's and ours among them, and writes eviction.json and eviction.png
into benchmarks/results. Only counts: the same on every machine.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fair_service.workers import Workers
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from eviction_policies.comparison import play
from eviction_policies.mixes import MIXES, SEED
from eviction_policies.picture import draw
from eviction_policies.policies import POLICIES
from eviction_policies.server import DEVICE, EPOCH, HOST
from eviction_policies.targets import as_table, targets

FULL, QUICK = 1_500, 500  # requests of each play


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--quick", action="store_true", help="shorter plays, half a minute")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    options = parser.parse_args(arguments)
    started = time.monotonic()
    results = measure(QUICK if options.quick else FULL)
    results["targets"] = [target._asdict() for target in targets(results)]
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "eviction.json").write_text(json.dumps(results, indent=1) + "\n")
    draw(results, options.out / "eviction.png")
    print(as_table(results))
    seconds = time.monotonic() - started
    print(f"{seconds:.0f} s; written to {options.out}/eviction.json and .png")
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
    raise SystemExit(main())
