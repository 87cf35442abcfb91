"""What a cache operation costs, upstream's tree and ours, in one process on the same traces.

    python benchmarks/tree.py [--leaves 1000 10000 40000 100000] [--out benchmarks/results]

Writes tree.json and tree.png. Both trees are hierarchical caches on real pools of one layer.
Times are medians in microseconds; the machine drifts, so compare the two only within one run.
"""

from __future__ import annotations

import argparse
import gc
import json
import platform
import statistics
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Iterator
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import matplotlib
from tqdm import tqdm

matplotlib.use("Agg")
import matplotlib.pyplot as plt

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from support.trees import Tree, start_group

from sglang.srt.mem_cache.base_prefix_cache import EvictParams

LEAF = 4  # tokens of a leaf
SYSTEM = 16  # tokens of the beginning that a user's leaves share
LONG = 812  # tokens of the prompt that match and insert are timed with
HARD_STOP = 3.0  # seconds that one figure may take
OURS, THEIRS = "tenant", "upstream"


def leaves(size: int, users: int) -> Iterator[tuple[str, list[int]]]:
    """Each user's system prompt, then turns that differ at once."""
    for number in range(size):
        user = number % users
        yield f"u{user}", [*range(user * SYSTEM, (user + 1) * SYSTEM), *_fresh(number)]


def _fresh(number: int) -> list[int]:
    return [10_000_000 + number * LEAF + i for i in range(LEAF)]


def build(ours: bool, size: int, users: int) -> Tree:
    tokens = size * LEAF + users * SYSTEM + 16 * LONG
    tree = Tree(
        ours=ours, device_tokens=tokens, host_ratio=1.1, write_policy="write_through_selective"
    )
    for user, prompt in leaves(size, users):
        tree.insert(prompt, user)
    return tree


def bytes_per_node(ours: bool) -> float:
    """Python and tensor memory that one more leaf costs, everything that holds it included."""
    size = 20_000
    prompts = [prompt for _, prompt in leaves(size, 100)]
    tree = Tree(
        ours=ours, device_tokens=size * 8, host_ratio=1.1, write_policy="write_through_selective"
    )
    tree.insert(prompts[0], "u0")
    gc.collect()
    tracemalloc.start()
    for number, prompt in enumerate(prompts):
        tree.insert(prompt, f"u{number % 100}")
    gc.collect()
    used, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return used / size


def timed(action: Callable[[], Any], wanted: int) -> float:
    """Median microseconds of one call."""
    spent: list[float] = []
    end = time.perf_counter() + HARD_STOP
    while len(spent) < wanted and time.perf_counter() < end:
        start = time.perf_counter()
        action()
        spent.append(time.perf_counter() - start)
    return statistics.median(spent) * 1e6


def evict_one(tree: Tree) -> Callable[[], Any]:
    return lambda: tree.cache.evict(EvictParams(num_tokens=1))


def insert_next(tree: Tree, prompt: list[int]) -> Callable[[], Any]:
    """Each call inserts the prompt with another last token."""
    last = count(1)
    return lambda: tree.insert([*prompt[:-1], -next(last)], "u0")


def measure(size: int, users: int, rounds: int) -> dict[str, dict[str, float]]:
    """Figure -> which tree -> microseconds. The trees take turns, round by round."""
    trees = {THEIRS: build(False, size, users), OURS: build(True, size, users)}
    gc.collect()
    gc.freeze()  # a collection over millions of objects would be measured instead
    figures: dict[str, dict[str, list[float]]] = {}

    def note(figure: str, which: str, value: float) -> None:
        figures.setdefault(figure, {}).setdefault(which, []).append(value)

    talk = list(range(20_000_000, 20_000_000 + LONG))
    for number in range(rounds):
        for which, tree in trees.items():
            fresh = [talk[0] + (number + 1) * 10_000 + i for i in range(LONG)]
            tree.insert(fresh, "u0")
            note("match 812 tokens", which, timed(partial(tree.match, fresh, "u0"), 200))
            note("insert 812 tokens", which, timed(insert_next(tree, fresh), 50))
            note("evict one leaf", which, timed(evict_one(tree), 200))
    return {
        figure: {which: statistics.median(values) for which, values in by_tree.items()}
        for figure, by_tree in figures.items()
    }


def draw(results: dict[str, Any], path: Path) -> None:
    figures = list(next(iter(results["runs"]))["us"])
    fig, axes = plt.subplots(1, len(figures), figsize=(5 * len(figures), 4.2), sharey=True)
    colours = {1: "C0", 100: "C1", 10_000: "C2"}
    for axis, figure in zip(axes, figures, strict=True):
        for users in sorted({run["users"] for run in results["runs"]}):
            runs = [run for run in results["runs"] if run["users"] == users]
            for which, style in ((THEIRS, "--"), (OURS, "-")):
                axis.loglog(
                    [run["leaves"] for run in runs],
                    [run["us"][figure][which] for run in runs],
                    style,
                    marker="o",
                    color=colours.get(users, "C3"),
                    label=f"{which}, {users:,} user{'s' if users > 1 else ''}",
                )
        axis.set_title(figure)
        axis.set_xlabel("leaves in the tree")
        axis.grid(True, which="major", alpha=0.3)
    axes[0].set_ylabel("microseconds, median")
    axes[0].legend(fontsize=8, loc="upper left")
    fig.tight_layout()
    fig.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--leaves", type=int, nargs="+", default=[1_000, 10_000, 40_000, 100_000])
    parser.add_argument("--users", type=int, nargs="+", default=[1, 100, 10_000])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    options = parser.parse_args()
    runs = []
    with tempfile.TemporaryDirectory() as directory:
        start_group(Path(directory))
        cases = [(n, u) for u in options.users for n in options.leaves if u <= n]
        for size, users in tqdm(cases, desc="trees"):
            us = measure(size, users, options.rounds)
            runs.append({"leaves": size, "users": users, "us": us})
            tqdm.write(f"{size:>8} leaves {users:>6} users  " + summary(us))
        memory = {which: bytes_per_node(which is OURS) for which in (THEIRS, OURS)}
    results = {"machine": platform.machine(), "bytes_per_node": memory, "runs": runs}
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "tree.json").write_text(json.dumps(results, indent=1) + "\n")
    draw(results, options.out / "tree.png")


def summary(us: dict[str, dict[str, float]]) -> str:
    return "   ".join(
        f"{figure}: {by[THEIRS]:.1f} / {by[OURS]:.1f} us" for figure, by in us.items()
    )


if __name__ == "__main__":
    main()
