"""How well an attacker tells that the victim is there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from scipy.stats import binomtest

from colluding.attack import Seen

CONFIDENCE = 0.999  # of one interval: dozens are judged together


@dataclass(frozen=True)
class Advantage:
    """``value``: true positive rate less false positive rate of the best rule, on trials that it
    was not chosen on. ``low``, ``high``: the interval of at least ``CONFIDENCE`` that the exact
    ones of the two rates (Clopper and Pearson) give. ``trials``: of both kinds."""

    trials: int
    true: float
    false: float
    value: float
    low: float
    high: float


def advantage(there: Sequence[Seen], absent: Sequence[Seen], learnt: int) -> Advantage:
    """Choose a rule on the first ``learnt`` trials of each kind, and judge it on the others."""
    rule = _best_rule(there[:learnt], absent[:learnt])
    right, wrong = (
        binomtest(sum(seen in rule for seen in kind[learnt:]), len(kind) - learnt)
        for kind in (there, absent)
    )
    # Each is wrong half as often as both together may be.
    each = 1 - (1 - CONFIDENCE) / 2
    true, false = (rate.proportion_ci(each, method="exact") for rate in (right, wrong))
    return Advantage(
        trials=right.n + wrong.n,
        true=right.statistic,
        false=wrong.statistic,
        value=right.statistic - wrong.statistic,
        low=true.low - false.high,
        high=true.high - false.low,
    )


def _best_rule(there: Sequence[Seen], absent: Sequence[Seen]) -> set[Seen]:
    """Take for a sign of the victim what was seen more often with them: no rule is better."""
    with_them, without = Counter(there), Counter(absent)
    return {seen for seen in with_them if with_them[seen] > without[seen]}
