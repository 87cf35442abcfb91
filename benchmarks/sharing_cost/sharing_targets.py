"""What sharing selectively may cost, and whether it does."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from report.target import Target

from sharing_cost.methods import METHODS, SALTED, SELECTED, SHARED_BY_ALL
from sharing_cost.passes import COLD, STAGES, WARM

KEPT = 0.95  # of upstream's cached tokens
SLOWER = 1.05  # than upstream, to the first token
FASTER = 1.5  # than a salt per user
ROUNDS = 2_000  # of the bootstrap

Results = Mapping[str, Mapping[str, Mapping[str, Any]]]  # workload, method, stage


def targets(results: Results, sharing: Sequence[str]) -> list[Target]:
    """For the workloads in which users share."""
    return [
        target.of(workload=workload)
        for workload, methods in results.items()
        if workload in sharing
        for target in _targets(methods)
    ]


def _targets(methods: Mapping[str, Mapping[str, Any]]) -> Iterator[Target]:
    ours, theirs, salted = (
        methods[method.name][WARM] for method in (SELECTED, SHARED_BY_ALL, SALTED)
    )
    kept = ours["cached_tokens"] / max(1, theirs["cached_tokens"])
    name = f"at least {KEPT:.0%} of upstream's cached tokens"
    yield Target(name, kept, KEPT, ">=", shown=f"{kept:.1%}")
    slower, low, high = ratio(ours["ttft"], theirs["ttft"])
    name = f"first token at most {SLOWER - 1:.0%} later than upstream's"
    shown = f"{slower - 1:+.1%} [{low - 1:+.1%}, {high - 1:+.1%}]"
    yield Target(name, slower, SLOWER, "<=", shown=shown)
    faster = salted["ttft_mean"] / ours["ttft_mean"]
    name = f"first token {FASTER} times sooner than with a salt per user"
    yield Target(name, faster, FASTER, ">=", shown=f"{faster:.2f}")


def rows(found: list[Target]) -> list[dict[str, Any]]:
    """As the results file has them."""
    return [t.row(target="name", measured="shown", met="met") for t in found]


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> tuple[float, float, float]:
    """Ratio of the means of the same requests' times, and its bootstrap interval of 95 %."""
    first, second = np.asarray(ours, float), np.asarray(theirs, float)
    drawn = np.random.default_rng(0).integers(0, len(first), (ROUNDS, len(first)))
    draws = first[drawn].mean(axis=1) / second[drawn].mean(axis=1)
    low, high = np.quantile(draws, [0.025, 0.975])
    return float(first.mean() / second.mean()), float(low), float(high)


def summary(methods: Mapping[str, Mapping[str, Any]]) -> str:
    """A table of one workload for the terminal."""
    lines = [
        f"  {'':22}{'cached':>8}{'mean':>8}{'p50':>8}{'p95':>8} ms{'computed':>11}{'tokens/s':>11}"
    ]
    for method in METHODS:
        for stage in STAGES:
            if stage == COLD and method is not SELECTED:
                continue
            figures = methods[method.name][stage]
            lines.append(
                f"  {method.name + ', ' + stage:22}{figures['cached_share']:>8.1%}"
                f"{figures['ttft_mean']:>8.0f}{figures['ttft_p50']:>8.0f}"
                f"{figures['ttft_p95']:>8.0f}   {figures['computed_tokens']:>11,}"
                f"{figures['tokens_per_second']:>11,.0f}"
            )
    return "\n".join(lines)
