"""What fair service is to reach, and whether it does."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

SERVED = 0.95  # of the entitlement, at least
LATER = 1.5  # times the victim's p99 when alone, at most
KEPT = 0.95  # of lpm's throughput, at least
FAIR = ("vtc", "dlpm")
NOISY = "noisy neighbour"

Figures = Mapping[str, Any]  # of one policy
Row = dict[str, Any]  # scenario, policy, target, measured, beside, met


def targets(scenarios: Mapping[str, Mapping[str, Any]]) -> list[Row]:
    """``scenarios``: name -> {"policies": policy -> what ``measure`` returned}.

    What was not measured is left out. ``beside``: the same of upstream's policies.
    """
    rows: list[Row] = []
    for name, scenario in scenarios.items():
        for row in _judged(name, scenario["policies"]):
            rows.append({"scenario": name, **row})
    return rows


def _judged(name: str, policies: Mapping[str, Figures]) -> Iterator[Row]:
    if "vtc" in policies:
        yield from _under_the_bound(policies)
    for policy in FAIR:
        if policy in policies:
            yield from _served_as_entitled(policy, policies)
            if name == NOISY:
                yield from _undisturbed(policy, policies)
    if "dlpm" in policies and "lpm" in policies:
        yield _no_slower(policies)


def _under_the_bound(policies: Mapping[str, Figures]) -> Iterator[Row]:
    """The exact difference where the server said it, else what a client sees of it."""
    gap = policies["vtc"]["gap"]
    measured = gap["seen"] if gap["exact"] is None else gap["exact"]
    if gap["bound"] is not None:
        yield {
            "policy": "vtc",
            "target": f"service difference of at most {gap['bound']:.0f}",
            "measured": f"{measured:.0f}",
            "beside": _beside(policies, lambda f: f["gap"]["exact"] or f["gap"]["seen"], ".0f"),
            "met": measured <= gap["bound"],
        }


def _served_as_entitled(policy: str, policies: Mapping[str, Figures]) -> Iterator[Row]:
    share = policies[policy]["smallest_share_backlogged"]
    if share is not None:
        yield {
            "policy": policy,
            "target": f"backlogged users are served {SERVED:.0%} of their entitlement",
            "measured": f"{share:.1%}",
            "beside": _beside(policies, lambda f: f["smallest_share_backlogged"], ".1%"),
            "met": share >= SERVED,
        }


def _undisturbed(policy: str, policies: Mapping[str, Figures]) -> Iterator[Row]:
    ratio = policies[policy]["victim"].get("p99_over_alone")
    if ratio is not None:
        yield {
            "policy": policy,
            "target": f"victim's first token, p99, at most {LATER} times as late as alone",
            "measured": f"{ratio:.2f}",
            "beside": _beside(policies, lambda f: f["victim"].get("p99_over_alone"), ".1f"),
            "met": ratio <= LATER,
        }


def _no_slower(policies: Mapping[str, Figures]) -> Row:
    kept = policies["dlpm"]["throughput"] / policies["lpm"]["throughput"]
    return {
        "policy": "dlpm",
        "target": f"{KEPT:.0%} of lpm's throughput",
        "measured": f"{kept:.1%}",
        "beside": _beside(policies, lambda f: f["throughput"], ".0f"),
        "met": kept >= KEPT,
    }


def _beside(policies: Mapping[str, Figures], figure: Any, form: str) -> str:
    found = {p: figure(f) for p, f in policies.items() if p not in FAIR}
    return ", ".join(f"{p} {v:{form}}" for p, v in found.items() if v is not None)
