"""What a round of the scheduler costs under each policy, upstream's and ours, in one process.

    python benchmarks/scheduling_round.py [--quick] [--out benchmarks/results]

Real policies, requests, PrefillAdder and cache; the scheduler's round as replay.py plays it.
The policies take turns round by round, so whatever slows the machine down slows all of them:
trust the ratios, compare times only within one run. Writes scheduling_round.json and .png.
"""

from __future__ import annotations

import argparse
import dataclasses
import gc
import json
import os
import platform
from collections.abc import Sequence
from importlib.metadata import version
from itertools import product
from pathlib import Path
from typing import Any

import torch
from round_cost.picture import draw
from round_cost.rounds import POLICIES, SITUATIONS, costs
from tqdm import tqdm
from tree_cost.timing import undisturbed

WAITING = (100, 1_000, 10_000)
TO_A_USER = 10  # waiting requests
ASKED = 1.2  # a fair policy's round at most, as a multiple of fcfs's, with most waiting
FAIR = ("vtc", "dlpm")


def measure(waiting: Sequence[int], rounds: int) -> dict[str, Any]:
    """All that scheduling_round.json holds, but for the verdicts."""
    runs = []
    cells = list(product(waiting, SITUATIONS))
    for number, situation in tqdm(cells, desc="scheduling rounds"):
        users = max(1, number // TO_A_USER)
        with undisturbed():
            found = costs(number, users, situation, POLICIES, rounds)
        policies = {policy: dataclasses.asdict(cost) for policy, cost in found.items()}
        runs.append(
            {"waiting": number, "users": users, "situation": situation, "policies": policies}
        )
    machine = {
        "architecture": platform.machine(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "load": round(os.getloadavg()[0], 1),
        "sglang": version("sglang"),
    }
    return {"asked": ASKED, "machine": machine, "runs": runs}


def verdicts(results: dict[str, Any]) -> list[dict[str, Any]]:
    """Of the rounds with most waiting: is the target reached?"""
    most = max(run["waiting"] for run in results["runs"])
    return [
        {
            "policy": policy,
            "waiting": most,
            "situation": run["situation"],
            "ratio": run["policies"][policy]["ratio"],
            "reached": run["policies"][policy]["ratio"] <= ASKED,
        }
        for run in results["runs"]
        if run["waiting"] == most
        for policy in FAIR
    ]


def as_table(results: dict[str, Any]) -> str:
    lines = [f"{'waiting':>8}  {'':22}" + "".join(f"{policy:>24}" for policy in POLICIES)]
    for run in results["runs"]:
        cells = [_cell(cost) for cost in run["policies"].values()]
        start = f"{run['waiting']:>8,}  {run['situation']:22}"
        lines.append(start + "".join(f"{cell:>24}" for cell in cells))
    for verdict in results["targets"]:
        reached = "pass" if verdict["reached"] else "FAIL"
        lines.append(
            f"{verdict['policy']}, {verdict['waiting']:,} waiting, {verdict['situation']}: "
            f"{verdict['ratio']:.2f} times fcfs's round, at most {ASKED} was asked: {reached}"
        )
    return "\n".join(lines)


def _cell(cost: dict[str, Any]) -> str:
    interval = f"[{cost['low']:.2f}-{cost['high']:.2f}]"
    return f"{cost['us'] / 1000:.2f} ms x{cost['ratio']:.2f} {interval}"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer rounds: less exact")
    parser.add_argument("--waiting", type=int, nargs="+", default=WAITING)
    parser.add_argument("--rounds", type=int, help="of each policy and situation (300)")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    gc.freeze()
    rounds = options.rounds or (60 if options.quick else 300)
    results = measure(sorted(options.waiting), rounds)
    gc.unfreeze()
    results["targets"] = verdicts(results)
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "scheduling_round.json").write_text(json.dumps(results, indent=1) + "\n")
    draw(results, options.out / "scheduling_round.png")
    print(as_table(results))


if __name__ == "__main__":
    main()
