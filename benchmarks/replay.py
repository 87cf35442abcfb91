"""Every scenario of fair service and VTC's suites, on a modelled device (3 minutes on two cores).

    python benchmarks/replay.py [--policies fcfs lpm vtc dlpm] [--scenarios NAME...] [--out FILE]

Policies, scheduling round, requests and cache are the server's own; only the model's time is
modelled, so the figures are the same on every machine.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from fair_service.replay import POLICIES, replay_all, steps_of
from fair_service.scenarios import SCENARIOS
from fair_service.targets import targets
from tqdm import tqdm


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--policies", nargs="+", default=POLICIES, choices=POLICIES)
    parser.add_argument("--scenarios", nargs="+", default=[], choices=list(SCENARIOS))
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    with tqdm(total=steps_of(args.policies, args.scenarios), unit="run") as bar:

        def progress(what: str) -> None:
            bar.set_description(what)
            bar.update()

        results = replay_all(args.policies, args.scenarios, progress)
    results["targets"] = targets(results["scenarios"])
    for row in results["targets"]:
        print(
            f"{row['scenario']:16} {row['policy']:6} {row['target']}: {row['measured']}"
            f" ({row['beside']}) {'met' if row['met'] else 'MISSED'}",
            file=sys.stderr,
        )
    text = json.dumps(results, indent=1, allow_nan=False) + "\n"
    if args.out:
        args.out.write_text(text)
    else:
        print(text, end="")


if __name__ == "__main__":
    main()
