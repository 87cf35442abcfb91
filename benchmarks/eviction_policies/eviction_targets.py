"""What was asked of the policy that the tree runs, and whether it holds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from report.table import markdown
from report.target import Target, verdicts

from eviction_policies.mixes import MIXES
from eviction_policies.policies import CHOSEN, POLICIES, UPSTREAM

ONE_OFF = 0.95  # of what LRU finds, beside users who come once
TOTAL = 0.98
NOISY = 0.98  # of what fair share of everything held finds for the small user

Results = Mapping[str, Any]


def row_of(results: Results, mix: str, policy: str) -> dict[str, Any]:
    return next(row for row in results["rows"] if (row["mix"], row["policy"]) == (mix, policy))


def total(results: Results, mix: str, policy: str) -> float:
    """Tokens found, as a part of what LRU finds."""
    lru = row_of(results, mix, UPSTREAM)["found"]
    return float(row_of(results, mix, policy)["found"] / lru)


def targets(results: Results) -> list[Target]:
    found = [_at_least("crowd, found of LRU's", ONE_OFF, total(results, "crowd", CHOSEN))]
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
    return Target(name, measured, least, ">=")


def rows(found: list[Target]) -> list[dict[str, Any]]:
    """As the results file has them."""
    return [t.row(name="name", asked="asked", measured="value", reached="met") for t in found]


def as_table(results: Results) -> str:
    """For each mix and policy: found of LRU's, and the worst-off kind of user's part."""
    cells = [
        [mix.name, *(_cell(results, mix.name, policy) for policy in POLICIES)] for mix in MIXES
    ]
    return "\n".join([*markdown(["mix", *POLICIES], cells), "", verdicts(targets(results))])


def _cell(results: Results, mix: str, policy: str) -> str:
    return f"{total(results, mix, policy):.2f} / {row_of(results, mix, policy)['worst_kind']:.2f}"
