"""How well a signal tells hits from misses.

A score is a number that is larger the more a probe looks like a hit: cached tokens, or minus
the seconds to the first token.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import ks_2samp

Scores = Sequence[float]
Array = npt.NDArray[np.float64]

ROUNDS = 4_000  # of the bootstrap
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Separation:
    """``auc``: chance that a random hit scores above a random miss, ties counted half; 0.5 says
    that the signal tells nothing. ``low``, ``high``: its bootstrap interval of ``CONFIDENCE``;
    ``wide_low``, ``wide_high``: the same for a family of comparisons together.
    ``tpr``, ``fpr``: at the threshold that is best on one half of the probes, on the other half.
    ``ks_p``: one-sided Kolmogorov-Smirnov, of the hypothesis that hits do not score higher."""

    hits: int
    misses: int
    auc: float
    low: float
    high: float
    wide_low: float
    wide_high: float
    tpr: float
    fpr: float
    ks_p: float
    median_hit: float
    median_miss: float

    @property
    def silent(self) -> bool:
        """Whether the interval, widened for the family, contains 0.5."""
        return self.wide_low <= 0.5 <= self.wide_high


def separation(hits: Scores, misses: Scores, *, family: int = 1) -> Separation:
    """``family``: how many comparisons are judged together (Bonferroni).

    Raises ValueError where there are not two hits and two misses: the threshold is learned on
    one half of them.
    """
    if min(len(hits), len(misses)) < 2:
        raise ValueError(f"{len(hits)} hits and {len(misses)} misses; give two or more of each")
    hot, cold = np.asarray(hits, float), np.asarray(misses, float)
    tpr, fpr = _rates(hot, cold)
    draws = _bootstrap(hot, cold)
    low, high = _interval(draws, 1 - CONFIDENCE)
    wide_low, wide_high = _interval(draws, (1 - CONFIDENCE) / family)
    return Separation(
        hits=len(hot),
        misses=len(cold),
        auc=auc(hits, misses),
        low=low,
        high=high,
        wide_low=wide_low,
        wide_high=wide_high,
        tpr=tpr,
        fpr=fpr,
        # scipy speaks of distribution functions: "less" is the one that lies to the right.
        ks_p=float(ks_2samp(hot, cold, alternative="less").pvalue),
        median_hit=float(np.median(hot)),
        median_miss=float(np.median(cold)),
    )


def auc(hits: Scores, misses: Scores) -> float:
    return float(_wins(np.asarray(hits, float), np.asarray(misses, float)).mean())


def _wins(hot: Array, cold: Array) -> Array:
    """1 where the hit of the row scores above the miss of the column, 0.5 where they tie."""
    difference = hot[:, None] - cold[None, :]
    return (np.sign(difference) + 1) / 2


def _bootstrap(hot: Array, cold: Array) -> Array:
    """The AUC of ``ROUNDS`` samples with replacement, from a fixed seed."""
    random = np.random.default_rng(0)
    drawn_hot = random.multinomial(len(hot), np.full(len(hot), 1 / len(hot)), ROUNDS)
    drawn_cold = random.multinomial(len(cold), np.full(len(cold), 1 / len(cold)), ROUNDS)
    sums = np.einsum("rc,rc->r", drawn_hot @ _wins(hot, cold), drawn_cold.astype(float))
    averages: Array = sums / (len(hot) * len(cold))
    return averages


def _interval(draws: Array, error: float) -> tuple[float, float]:
    low, high = np.quantile(draws, [error / 2, 1 - error / 2])
    return float(low), float(high)


def _rates(hot: Array, cold: Array) -> tuple[float, float]:
    """True and false positives at a threshold that was learned on other probes.

    Each half learns for the other, and the rates are those of both together.
    """
    positive = [0.0, 0.0]
    for half in (0, 1):
        threshold = _best_threshold(hot[half::2], cold[half::2])
        for index, scores in enumerate((hot, cold)):
            positive[index] += float((scores[1 - half :: 2] >= threshold).sum())
    return positive[0] / len(hot), positive[1] / len(cold)


def _best_threshold(hot: Array, cold: Array) -> float:
    """Where the difference of the rates is largest; between two scores, so that equal
    distributions of other probes fall on either side of it."""
    values = np.unique(np.concatenate((hot, cold)))
    candidates = np.append((values[1:] + values[:-1]) / 2, values[-1] + 1)
    gains = [(hot >= c).mean() - (cold >= c).mean() for c in candidates]
    return float(candidates[int(np.argmax(gains))])
