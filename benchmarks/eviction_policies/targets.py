"""What was asked of the policy that the tree runs, and whether it holds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from eviction_policies.mixes import MIXES
from eviction_policies.policies import CHOSEN, POLICIES, UPSTREAM

CROWD = 0.95  # of what LRU finds
TOTAL = 0.98
NOISY = 0.98  # of what fair share of everything held finds for the small user

Results = Mapping[str, Any]


class Target(NamedTuple):
    name: str
    asked: str
    measured: float
    reached: bool


def row_of(results: Results, mix: str, policy: str) -> dict[str, Any]:
    return next(row for row in results["rows"] if (row["mix"], row["policy"]) == (mix, policy))


def total(results: Results, mix: str, policy: str) -> float:
    """Tokens found, as a part of what LRU finds."""
    lru = row_of(results, mix, UPSTREAM)["found"]
    return float(row_of(results, mix, policy)["found"] / lru)


def targets(results: Results) -> list[Target]:
    found = [_at_least("crowd, found of LRU's", CROWD, total(results, "crowd", CHOSEN))]
    for mix in MIXES:
        name = f"{mix.name}, found of LRU's"
        found.append(_at_least(name, TOTAL, total(results, mix.name, CHOSEN)))
    for mix in MIXES:
        if mix.noisy:
            held, chosen = (
                row_of(results, mix.name, policy)["kinds"]["small"] for policy in ("held", CHOSEN)
            )
            name = f"{mix.name}, small user's part of that under held"
            found.append(_at_least(name, NOISY, chosen / held))
    return found


def _at_least(name: str, least: float, measured: float) -> Target:
    return Target(name, f">= {least:g}", measured, measured >= least)


def as_table(results: Results) -> str:
    """For each mix and policy: found of LRU's, and the worst-off kind of user's part."""
    lines = [_line(["mix", *POLICIES]), _line(["---"] * (1 + len(POLICIES)))]
    for mix in MIXES:
        cells = [mix.name]
        for policy in POLICIES:
            worst = row_of(results, mix.name, policy)["worst_kind"]
            cells.append(f"{total(results, mix.name, policy):.2f} / {worst:.2f}")
        lines.append(_line(cells))
    lines.append("")
    lines += [
        f"{'pass' if target.reached else 'FAIL'}  {target.measured:.3f}  "
        f"{target.asked}  {target.name}"
        for target in targets(results)
    ]
    return "\n".join(lines)


def _line(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"
