"""What a round of the scheduler costs under each policy, upstream's and ours, in one process.

    python benchmarks/scheduling_round.py [--quick] [--out benchmarks/results]

Real policies, requests, PrefillAdder and cache; the scheduler's round as the replay plays it.
The policies take turns round by round, so whatever slows the machine down slows all of them:
trust the ratios, compare times only within one run. Writes scheduling_round.json and .png.
"""

from __future__ import annotations

import dataclasses
import gc
from collections.abc import Sequence
from functools import partial
from itertools import product
from typing import Any

import torch
from report.machine import describe
from report.program import leave, options_of, run
from report.table import aligned
from report.target import Target, verdicts
from round_cost.counting import counting_cost
from round_cost.round_figure import draw
from round_cost.rounds import POLICIES, SITUATIONS, costs
from tqdm import tqdm
from tree_cost.timing import undisturbed

WAITING = (100, 1_000, 10_000)
TO_A_USER = 10  # waiting requests
ASKED = 1.2  # a fair policy's round at most, as a multiple of fcfs's, with most waiting
FAIR = ("vtc", "dlpm")
ASKED_OF_COUNTING = 1.02  # a step at most, as a multiple of one that counts nothing
COUNTED = ("fcfs", "dlpm")
_STEPS = 10  # of counting, for each round of the rest: they are short, and the difference small


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
    counting = {}
    for policy in COUNTED:
        with undisturbed():
            counting[policy] = dataclasses.asdict(counting_cost(policy, _STEPS * rounds))
    machine = describe("architecture", "cores", "python", "load", "sglang")
    return {"asked": ASKED, "machine": machine, "runs": runs, "counting": counting}


def targets(results: dict[str, Any]) -> list[Target]:
    """Of the rounds with most waiting; and of counting what users' requests took."""
    most = max(run["waiting"] for run in results["runs"])
    counted = [
        Target("times a step that counts nothing", cost["ratio"], ASKED_OF_COUNTING).of(
            policy=policy, waiting=WAITING[0], situation="counting for operators"
        )
        for policy, cost in results["counting"].items()
    ]
    return [
        Target("times fcfs's round", run["policies"][policy]["ratio"], ASKED).of(
            policy=policy, waiting=most, situation=run["situation"]
        )
        for run in results["runs"]
        if run["waiting"] == most
        for policy in FAIR
    ] + counted


def as_table(results: dict[str, Any]) -> str:
    cells = [
        (f"{run['waiting']:,}", run["situation"], *map(_cell, run["policies"].values()))
        for run in results["runs"]
    ]
    table = aligned(("waiting", "situation", *POLICIES), cells)
    return f"{table}\n\n{verdicts(targets(results))}"


def _cell(cost: dict[str, Any]) -> str:
    interval = f"[{cost['low']:.2f}-{cost['high']:.2f}]"
    return f"{cost['us'] / 1000:.2f} ms x{cost['ratio']:.2f} {interval}"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = options_of(__doc__, quick="fewer rounds: less exact")
    parser.add_argument("--waiting", type=int, nargs="+", default=WAITING)
    parser.add_argument("--rounds", type=int, help="of each policy and situation (300)")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    gc.freeze()
    rounds = options.rounds or (60 if options.quick else 300)
    results = measure(sorted(options.waiting), rounds)
    gc.unfreeze()
    results["targets"] = [t.row(ratio="value", reached="met") for t in targets(results)]
    print(as_table(results))
    leave("scheduling_round", options.out, results, partial(draw, results))


if __name__ == "__main__":
    run(main)
