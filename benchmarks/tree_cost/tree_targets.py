"""What was asked of the tree, and whether it holds."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from report.target import Target

from tree_cost.many_users import ENTRIES, ONE_OFF_USERS, OWNERS, PROMPT
from tree_cost.nodes import TURNS
from tree_cost.operations import EVICT, INSERT_LEAF, INSERT_LONG, MATCH_LEAF, MATCH_LONG
from tree_cost.subjects import SELECTIVE, UPSTREAM, VOTES

FLAT = (1_000, 100_000)  # leaves of the trees between which an eviction must not grow dearer
_SPEEDUPS = {10_000: 50, 40_000: 300}


def targets(results: dict[str, Any]) -> list[Target]:
    """``results``: what tree.json holds. Where several were measured, the worst one counts."""
    found = [*_one_user(results), *_speedups(results), *_flat(results), *_sizes(results)]
    found += _with_many_users(results)
    name = "request of the mixed trace, votes x counted users"
    found.append(_at_most(name, VOTES.name, 1.05, [results["votes"]["ratio"]]))
    name = "tenant cache off: upstream's own class"
    found.append(Target.holds(name, results["tenant_cache_off"]["is_upstreams"]).of(mode="off"))
    return found


def rows(found: list[Target]) -> list[dict[str, Any]]:
    """As the results file has them."""
    return [t.row(name="name", asked="asked", measured="value", reached="met") for t in found]


def _one_user(results: dict[str, Any]) -> Iterator[Target]:
    runs = [run for run in results["runs"] if run["users"] == 1]
    for operation in (MATCH_LONG, MATCH_LEAF, INSERT_LONG, INSERT_LEAF):
        for mode in results["modes"]:
            ratios = [_ratio(run, operation, mode) for run in runs]
            yield _at_most(f"{operation}, one user, x upstream", mode, 1.10, ratios)


def _speedups(results: dict[str, Any]) -> Iterator[Target]:
    for leaves, asked in _SPEEDUPS.items():
        for mode in results["modes"]:
            runs = [run for run in results["runs"] if run["leaves"] == leaves]
            ratios = [r for run in runs if (r := _ratio(run, EVICT, mode)) is not None]
            worst = 1 / max(ratios) if ratios else None
            yield Target(f"{EVICT} of {leaves:,}, times faster", worst, asked, ">=").of(mode=mode)


def _flat(results: dict[str, Any]) -> Iterator[Target]:
    for mode in results["modes"]:
        runs = [
            run["ratio"]
            for run in results["flat"]
            if run["mode"] == mode and (run["small"], run["large"]) == FLAT
        ]
        name = f"{EVICT}, {FLAT[1]:,} leaves x {FLAT[0]:,}"
        yield _at_most(name, mode, 1.5, runs, strictly=True)


def _sizes(results: dict[str, Any]) -> Iterator[Target]:
    memory, nodes = results["bytes_per_node"], results["nodes_per_talk"]
    for mode in results["modes"]:
        yield _at_most(
            "memory of a node, x upstream", mode, 1.2, [memory[mode] / memory[UPSTREAM.name]]
        )
    for mode in results["modes"]:
        fewer = nodes[UPSTREAM.name]["left"] / nodes[mode]["left"]
        # What is nobody's is not compacted: in shared mode the nodes are upstream's.
        asked = mode == SELECTIVE.name or mode == "isolated"
        name = f"nodes of {TURNS} turns, times fewer"
        yield Target(name, fewer, 10 if asked else None, ">=").of(mode=mode)


def _with_many_users(results: dict[str, Any]) -> Iterator[Target]:
    """What must not grow with those who were here: of the scheduler's time, and of memory."""
    crowded = results["crowded"]
    for key, name, limit in (
        ("promotion_ms", f"promotion of {PROMPT:,} tokens, {ENTRIES:,} blocked, ms", 1.0),
        ("stats_ms", f"stats of {OWNERS:,} owners, ms", 5.0),
    ):
        known = [crowded[key]] if key in crowded else []
        yield _at_most(name, SELECTIVE.name, limit, known, strictly=True)
    found = crowded["found_again"]
    for mode in results["modes"]:
        ratio = found[mode] / found[UPSTREAM.name]
        name = f"found again after {ONE_OFF_USERS} one-off users, x upstream"
        yield Target(name, ratio, 0.95, ">=").of(mode=mode)


def _ratio(run: dict[str, Any], operation: str, mode: str) -> float | None:
    ratio: float | None = run["operations"][operation]["ratio"].get(mode)
    return ratio


def _at_most(
    name: str,
    mode: str,
    limit: float,
    values: list[float] | list[float | None],
    strictly: bool = False,
) -> Target:
    known = [value for value in values if value is not None]
    worst = max(known) if known else None
    return Target(name, worst, limit, "<" if strictly else "<=", form=".2f").of(mode=mode)
