"""What the rounds of an engine come to: medians and percentiles, with their intervals."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from engine_speed.load import Load
from engine_speed.rounds import Played

DRAWS = 2_000  # of the bootstrap
CONFIDENCE = 0.95

Floats = npt.NDArray[np.float64]
Value = dict[str, float]


def figures(played: Sequence[Played], load: Load) -> dict[str, Any]:
    """Times in ms, of the requests of all rounds; the rest is the median of rounds."""
    ttfts = np.array([each.ttfts for each in played]) * 1e3
    seconds = np.array([[each.seconds] for each in played])
    speed = np.array([[each.tokens_per_second] for each in played])
    processor = np.array([[each.processor] for each in played])
    cached = [each.cached for each in played if each.cached is not None]
    return {
        "ttft_p50": interval(ttfts, lambda rows: np.percentile(rows, 50, axis=-1)),
        "ttft_p99": interval(ttfts, lambda rows: np.percentile(rows, 99, axis=-1)),
        "tokens_per_second": interval(speed, lambda rows: np.median(rows, axis=-1)),
        "seconds": interval(seconds, lambda rows: np.median(rows, axis=-1)),
        "processor_seconds": interval(processor, lambda rows: np.median(rows, axis=-1)),
        "cached_share": float(np.median(cached)) / load.prompt_tokens if cached else None,
        "rounds": [
            {
                "seconds": round(each.seconds, 4),
                "processor_seconds": round(each.processor, 2),
                "ttft": [round(t * 1e3, 2) for t in each.ttfts],
            }
            for each in played
        ],
    }


def interval(rows: Floats, measure: Callable[[Floats], Floats]) -> Value:
    """A measure of all values, and its bootstrap interval: rounds are drawn, not values, for
    those of one round had the same neighbours on the machine."""
    count = len(rows)
    drawn = np.random.default_rng(0).integers(0, count, (DRAWS, count))
    error = (1 - CONFIDENCE) / 2
    low, high = np.quantile(measure(rows[drawn].reshape(DRAWS, -1)), [error, 1 - error])
    value = measure(rows.reshape(1, -1))[0]
    return {"value": float(value), "low": float(low), "high": float(high)}


def times_faster(ours: Sequence[Played], theirs: Sequence[Played]) -> Value:
    """Their seconds / ours, of the same round; the median of rounds."""
    ratios = [[b.seconds / a.seconds] for a, b in zip(ours, theirs, strict=True)]
    return interval(np.array(ratios), lambda rows: np.median(rows, axis=-1))


def times_sooner(ours: Sequence[Played], theirs: Sequence[Played]) -> Value:
    """Their median time to the first token / ours, of the same round; the median of rounds."""
    both = zip(ours, theirs, strict=True)
    ratios = [[np.median(b.ttfts) / np.median(a.ttfts)] for a, b in both]
    return interval(np.array(ratios), lambda rows: np.median(rows, axis=-1))
