"""What fair service is to reach, and whether it does."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from report.target import Target

SERVED = 0.95  # of the entitlement, at least
LATER = 1.5  # times the victim's p99 when alone, at most
KEPT = 0.95  # of lpm's throughput, at least
FAIR = ("vtc", "dlpm")
NOISY = "noisy neighbour"

Figures = Mapping[str, Any]  # of one policy


def targets(scenarios: Mapping[str, Mapping[str, Any]]) -> list[Target]:
    """``scenarios``: name -> {"policies": policy -> what ``measure`` returned}.

    What was not measured is left out. ``Target.beside``: the same of upstream's policies.
    """
    return [
        target.of(scenario=name)
        for name, scenario in scenarios.items()
        for target in _judged(name, scenario["policies"])
    ]


def rows(found: list[Target]) -> list[dict[str, Any]]:
    """As the results file has them."""
    return [t.row(target="name", measured="shown", beside="beside", met="met") for t in found]


def _judged(name: str, policies: Mapping[str, Figures]) -> Iterator[Target]:
    if "vtc" in policies:
        yield from _under_the_bound(policies)
    for policy in FAIR:
        if policy in policies:
            yield from _served_as_entitled(policy, policies)
            if name == NOISY:
                yield from _undisturbed(policy, policies)
    if "dlpm" in policies and "lpm" in policies:
        yield _no_slower(policies)


def _under_the_bound(policies: Mapping[str, Figures]) -> Iterator[Target]:
    """The exact difference where the server said it, else what a client sees of it."""
    gap = policies["vtc"]["gap"]
    measured = gap["seen"] if gap["exact"] is None else gap["exact"]
    if gap["bound"] is not None:
        beside = _beside(policies, lambda f: f["gap"]["exact"] or f["gap"]["seen"], ".0f")
        name = f"service difference of at most {gap['bound']:.0f}"
        target = Target(name, measured, gap["bound"], shown=f"{measured:.0f}", beside=beside)
        yield target.of(policy="vtc")


def _served_as_entitled(policy: str, policies: Mapping[str, Figures]) -> Iterator[Target]:
    share = policies[policy]["smallest_share_backlogged"]
    if share is not None:
        beside = _beside(policies, lambda f: f["smallest_share_backlogged"], ".1%")
        name = f"backlogged users are served {SERVED:.0%} of their entitlement"
        target = Target(name, share, SERVED, ">=", shown=f"{share:.1%}", beside=beside)
        yield target.of(policy=policy)


def _undisturbed(policy: str, policies: Mapping[str, Figures]) -> Iterator[Target]:
    ratio = policies[policy]["victim"].get("p99_over_alone")
    if ratio is not None:
        beside = _beside(policies, lambda f: f["victim"].get("p99_over_alone"), ".1f")
        name = f"victim's first token, p99, at most {LATER} times as late as alone"
        target = Target(name, ratio, LATER, shown=f"{ratio:.2f}", beside=beside)
        yield target.of(policy=policy)


def _no_slower(policies: Mapping[str, Figures]) -> Target:
    kept = policies["dlpm"]["throughput"] / policies["lpm"]["throughput"]
    beside = _beside(policies, lambda f: f["throughput"], ".0f")
    name = f"{KEPT:.0%} of lpm's throughput"
    target = Target(name, kept, KEPT, ">=", shown=f"{kept:.1%}", beside=beside)
    return target.of(policy="dlpm")


def _beside(policies: Mapping[str, Figures], figure: Any, form: str) -> str:
    found = {p: figure(f) for p, f in policies.items() if p not in FAIR}
    return ", ".join(f"{p} {v:{form}}" for p, v in found.items() if v is not None)
