"""What sharing selectively may cost, and whether it does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sharing_cost.comparison import COLD, STAGES, WARM
from sharing_cost.contenders import EVERYBODY, SALTED, SELECTED, SHARED_BY_ALL

KEPT = 0.95  # of upstream's cached tokens
SLOWER = 1.05  # than upstream, to the first token
FASTER = 1.5  # than a salt per user
ROUNDS = 2_000  # of the bootstrap

Results = Mapping[str, Mapping[str, Mapping[str, Any]]]  # workload, contender, stage


def targets(results: Results, sharing: Sequence[str]) -> list[dict[str, Any]]:
    """Each as workload, target, measured, met; for the workloads in which users share."""
    judged = []
    for workload in (name for name in results if name in sharing):
        ours, theirs, salted = (
            results[workload][contender.name][WARM]
            for contender in (SELECTED, SHARED_BY_ALL, SALTED)
        )
        kept = ours["cached_tokens"] / max(1, theirs["cached_tokens"])
        slower, low, high = ratio(ours["ttft"], theirs["ttft"])
        faster = salted["ttft_mean"] / ours["ttft_mean"]
        rows = (
            (f"at least {KEPT:.0%} of upstream's cached tokens", f"{kept:.1%}", kept >= KEPT),
            (
                f"first token at most {SLOWER - 1:.0%} later than upstream's",
                f"{slower - 1:+.1%} [{low - 1:+.1%}, {high - 1:+.1%}]",
                slower <= SLOWER,
            ),
            (
                f"first token {FASTER} times sooner than with a salt per user",
                f"{faster:.2f}",
                faster >= FASTER,
            ),
        )
        judged += [
            {"workload": workload, "target": target, "measured": measured, "met": met}
            for target, measured, met in rows
        ]
    return judged


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> tuple[float, float, float]:
    """Ratio of the means of the same requests' times, and its bootstrap interval of 95 %."""
    first, second = np.asarray(ours, float), np.asarray(theirs, float)
    drawn = np.random.default_rng(0).integers(0, len(first), (ROUNDS, len(first)))
    draws = first[drawn].mean(axis=1) / second[drawn].mean(axis=1)
    low, high = np.quantile(draws, [0.025, 0.975])
    return float(first.mean() / second.mean()), float(low), float(high)


def as_table(judged: list[dict[str, Any]]) -> str:
    return "\n".join(
        f"{'ok' if row['met'] else 'MISSED':7}{row['workload']:16}{row['target']:56}"
        f"{row['measured']}"
        for row in judged
    )


def summary(contenders: Mapping[str, Mapping[str, Any]]) -> str:
    """A table of one workload for the terminal."""
    lines = [
        f"  {'':22}{'cached':>8}{'mean':>8}{'p50':>8}{'p95':>8} ms{'computed':>11}{'tokens/s':>11}"
    ]
    for contender in EVERYBODY:
        for stage in STAGES:
            if stage == COLD and contender is not SELECTED:
                continue
            figures = contenders[contender.name][stage]
            lines.append(
                f"  {contender.name + ', ' + stage:22}{figures['cached_share']:>8.1%}"
                f"{figures['ttft_mean']:>8.0f}{figures['ttft_p50']:>8.0f}"
                f"{figures['ttft_p95']:>8.0f}   {figures['computed_tokens']:>11,}"
                f"{figures['tokens_per_second']:>11,.0f}"
            )
    return "\n".join(lines)
