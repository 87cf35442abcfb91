"""What a cache operation costs, upstream's tree and ours, in one process on the same traces.

    python benchmarks/tree.py [--quick] [--out benchmarks/results]

Writes tree.json and tree.png, and says which of the asked ratios hold. All trees are
hierarchical caches on real pools of one layer. The machine drifts, so compare times only
within one run: what is judged are ratios of batches that ran side by side.
"""

from __future__ import annotations

import argparse
import dataclasses
import gc
import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from report.machine import describe
from report.program import leave, options_of, run
from report.target import verdicts
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from support.trees import start_group
from tree_cost.many_users import found_again, promotion_ms, stats_ms
from tree_cost.nodes import bytes_per_node, nodes_per_talk
from tree_cost.operations import Effort, evictions, measure
from tree_cost.subjects import OURS, SELECTIVE, SHARED, UPSTREAM, Kind, Subject
from tree_cost.switched_off import what_is_built
from tree_cost.timing import undisturbed
from tree_cost.traces import SEED, Shape
from tree_cost.tree_figure import draw
from tree_cost.tree_targets import FLAT, rows, targets
from tree_cost.votes import cost_of_votes

MACHINE = ("architecture", "cores", "python", "torch", "sglang")


@dataclasses.dataclass(frozen=True)
class Plan:
    """``flat``: leaves of the two trees between which evictions are compared.
    ``memory_leaves``: leaves of the tree whose nodes are weighed. ``rounds``: how often the user
    comes back among users who come once."""

    leaves: list[int]
    users: list[int]
    flat: tuple[int, int]
    flat_users: list[int]
    effort: Effort
    memory_leaves: int
    talks: int
    rounds: int


FULL = Plan(
    leaves=[1_000, 10_000, 40_000, 100_000, 200_000],
    users=[1, 100, 10_000],
    flat=FLAT,
    flat_users=[1, 100],
    effort=Effort(batches=200, samples=60, seconds=4.0),
    memory_leaves=20_000,
    talks=20,
    rounds=50,
)
QUICK = Plan(
    leaves=[1_000, 10_000, 40_000],
    users=[1, 100],
    flat=FLAT,
    flat_users=[1],
    effort=Effort(batches=60, samples=20, seconds=0.8),
    memory_leaves=5_000,
    talks=4,
    rounds=12,
)


def kinds_for(users: int, modes: Sequence[str]) -> list[Kind]:
    """Upstream's and ours. Where nothing has an owner, the number of users changes nothing."""
    ours = [OURS[mode] for mode in modes]
    return [UPSTREAM, *(kind for kind in ours if users == 1 or kind is not SHARED)]


def filled(kind: Kind, shape: Shape) -> Subject:
    subject = Subject(kind, shape)
    subject.fill()
    return subject


def run_of(shape: Shape, modes: Sequence[str], effort: Effort) -> dict[str, Any]:
    with undisturbed():
        subjects = {kind.name: filled(kind, shape) for kind in kinds_for(shape.users, modes)}
        times = measure(subjects, effort)
    return {
        "leaves": shape.leaves,
        "users": shape.users,
        "operations": {name: dataclasses.asdict(figures) for name, figures in times.items()},
        # Of the mixed trace: upstream's requests find strangers' prefixes, ours what is public.
        "cached_tokens": {name: subject.cached_tokens for name, subject in subjects.items()},
    }


def flatness(kind: Kind, users: int, plan: Plan) -> dict[str, Any]:
    """An eviction in our large tree as a multiple of one in our small tree."""
    small, large = plan.flat
    with undisturbed():
        subjects = {
            "small": filled(kind, Shape(small, users)),
            "large": filled(kind, Shape(large, users)),
        }
        times = evictions(subjects, plan.effort.batches, plan.effort.seconds)
    return {
        "mode": kind.name,
        "users": users,
        "small": small,
        "large": large,
        "us": times.us,
        "ratio": times.ratio["large"],
    }


def measure_all(plan: Plan, modes: Sequence[str]) -> dict[str, Any]:
    """Everything that tree.json holds, but for the targets."""
    kinds = [UPSTREAM, *(OURS[mode] for mode in modes)]
    shapes = [Shape(n, u) for u in plan.users for n in plan.leaves if u <= n]
    flat = [(k, u) for k in kinds[1:] for u in plan.flat_users if k is not SHARED or u == 1]
    results: dict[str, Any] = {"seed": SEED, "modes": list(modes), "machine": describe(*MACHINE)}
    with tqdm(total=len(shapes) + len(flat) + 3 * len(kinds) + 4, desc="benchmark") as bar:

        def step(name: str, figure: Callable[[], Any]) -> Any:
            bar.set_postfix_str(name)
            value = figure()
            bar.update()
            return value

        results["tenant_cache_off"] = step("flag off", what_is_built)
        results["bytes_per_node"] = {
            kind.name: step("memory", partial(bytes_per_node, kind, plan.memory_leaves))
            for kind in kinds
        }
        results["nodes_per_talk"] = {
            kind.name: step("talks", partial(nodes_per_talk, kind, plan.talks)) for kind in kinds
        }
        results["votes"] = step("votes", partial(cost_of_votes, plan.effort))
        results["crowded"] = with_many_users(kinds, plan.rounds, step)
        results["runs"] = [
            step(
                f"{shape.leaves:,} leaves, {shape.users:,} users",
                partial(run_of, shape, modes, plan.effort),
            )
            for shape in shapes
        ]
        results["flat"] = [
            step(f"evictions, {users:,} users", partial(flatness, kind, users, plan))
            for kind, users in flat
        ]
    return results


def with_many_users(
    kinds: Sequence[Kind], rounds: int, step: Callable[[str, Callable[[], Any]], Any]
) -> dict[str, Any]:
    """What must not grow with all who were here. Only in selective mode prompts become public."""
    results: dict[str, Any] = {}
    if SELECTIVE in kinds:
        results["promotion_ms"] = step("blocklist", partial(promotion_ms, SELECTIVE))
        results["stats_ms"] = step("stats", partial(stats_ms, SELECTIVE))
    results["found_again"] = {
        kind.name: step("one-off users", partial(found_again, kind, rounds)) for kind in kinds
    }
    return results


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = options_of(__doc__, quick="fewer and smaller trees, a minute")
    parser.add_argument("--leaves", type=int, nargs="+", help="sizes of the trees")
    parser.add_argument("--users", type=int, nargs="+", help="numbers of users")
    parser.add_argument("--flat", type=int, nargs=2, help="two sizes to compare evictions at")
    parser.add_argument("--batches", type=int, help="of each operation; more are more exact")
    parser.add_argument("--memory-leaves", type=int, help="leaves that are weighed")
    parser.add_argument("--modes", nargs="+", choices=OURS, default=["shared", "selective"])
    return parser.parse_args(arguments)


def plan_of(options: argparse.Namespace) -> Plan:
    plan = QUICK if options.quick else FULL
    wanted = {
        "leaves": options.leaves,
        "users": options.users,
        "flat": options.flat and tuple(options.flat),
        "memory_leaves": options.memory_leaves,
        "effort": options.batches
        and dataclasses.replace(plan.effort, batches=options.batches, samples=options.batches),
    }
    return dataclasses.replace(plan, **{k: v for k, v in wanted.items() if v is not None})


def main(arguments: Sequence[str] | None = None) -> None:
    options = parsed(arguments)
    torch.set_num_threads(1)
    gc.freeze()  # what was imported need not be looked through again and again
    with tempfile.TemporaryDirectory() as directory:
        start_group(Path(directory))
        results = measure_all(plan_of(options), options.modes)
    gc.unfreeze()
    found = targets(results)
    results["quick"] = options.quick
    results["targets"] = rows(found)
    print(verdicts(found))
    leave("tree", options.out, results, partial(draw, results))


if __name__ == "__main__":
    run(main)
