"""The price of keeping users apart, on one page."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from report.figure import BLUE, GREY, RED, drawn, grid, grouped_bars, legend_outside, shifts

from sharing_cost.methods import DIVIDED, SALTED, SELECTED, SHARED_BY_ALL, Method
from sharing_cost.passes import AT_ONCE, COLD, WARM

Results = Mapping[str, Mapping[str, Mapping[str, Any]]]

Bars = Sequence[tuple[Method, str, str, str]]  # method, stage, colour, label

BARS: Bars = (
    (SHARED_BY_ALL, WARM, RED, "upstream: everybody shares all"),
    (SELECTED, WARM, BLUE, "selective, warm"),
    (SELECTED, COLD, "#8fbbe0", "selective, from an empty cache"),
    (DIVIDED, WARM, GREY, "isolated"),
    (SALTED, WARM, "#c8b98a", "upstream, a salt per user"),
)


def draw(results: Results, path: Path) -> None:
    title = "What keeping users apart costs"
    with drawn(path, 2, 3, size=(20, 9.5), title=title) as (figure, axes):
        _cached(axes[0, 0], results)
        _first_tokens(axes[0, 1], results)
        _throughput(axes[0, 2], results)
        _warming(axes[1, 0], results)
        _occupancy(axes[1, 1], results)
        _promotions(axes[1, 2], results)
        legend_outside(figure, axes[0, 0])


def _cached(axis: Axes, results: Results) -> None:
    _bars(axis, results, BARS, lambda figures: figures["cached_share"] * 100)
    axis.set_title("Prompt tokens found in the cache")
    axis.set_ylabel("%")


def _first_tokens(axis: Axes, results: Results) -> None:
    _bars(axis, results, BARS, lambda figures: figures["ttft_mean"])
    for shift, (method, stage, colour, _) in zip(shifts(len(BARS)), BARS, strict=True):
        figures = [workload[method.name][stage] for workload in results.values()]
        means, tops = ([each[key] for each in figures] for key in ("ttft_mean", "ttft_p95"))
        axis.vlines([n + shift for n in range(len(results))], means, tops, color=colour, lw=1.5)
    axis.set_title("Time to first token: mean, and p95 (line)")
    axis.set_ylabel("ms")


def _throughput(axis: Axes, results: Results) -> None:
    bars = [(who, AT_ONCE, colour, label) for who, stage, colour, label in BARS if stage == WARM]
    _bars(axis, results, bars, lambda figures: figures["tokens_per_second"])
    axis.set_ylabel("prompt tokens per second")
    axis.set_title("Throughput when all requests come at once, warm")


def _bars(
    axis: Axes, results: Results, bars: Bars, value: Callable[[Mapping[str, Any]], float]
) -> None:
    heights = {
        label: [value(workload[method.name][stage]) for workload in results.values()]
        for method, stage, _, label in bars
    }
    grouped_bars(axis, list(results), heights, {label: colour for _, _, colour, label in bars})
    grid(axis, "y")


def _warming(axis: Axes, results: Results) -> None:
    """From an empty cache: how the share of cached tokens rises as users come."""
    for number, (name, workload) in enumerate(results.items()):
        for method, style in ((SHARED_BY_ALL, ":"), (SELECTED, "-")):
            shares = workload[method.name][COLD]["cached_by_request"]
            averages = [total / (n + 1) * 100 for n, total in enumerate(accumulate(shares))]
            axis.plot(
                range(1, len(averages) + 1),
                averages,
                style,
                color=f"C{number}",
                label=name if method is SELECTED else None,
            )
    axis.set_xlabel("requests since the cache was empty")
    axis.set_ylabel("% of a prompt cached, mean so far")
    axis.set_ylim(0, 100)
    grid(axis)
    axis.legend(fontsize=8, loc="upper left")
    axis.set_title("Becoming public takes three users (dotted: upstream)")


def _occupancy(axis: Axes, results: Results) -> None:
    """Of the workload with the longest common texts, where copies cost most."""
    name = max(results, key=lambda name: results[name][SALTED.name][COLD]["computed_tokens"])
    for method, _, colour, _ in (bar for bar in BARS if bar[1] == WARM):
        samples = results[name][method.name][COLD]["occupancy"]
        times = [sample["at"] for sample in samples]
        axis.plot(times, [s["held"] for s in samples], color=colour, lw=2, label=method.name)
        if method is SELECTED:
            public = [s["public"] for s in samples]
            axis.fill_between(
                times, public, color=colour, alpha=0.2, label="selective: of it public"
            )
    axis.set_xlabel("seconds since the cache was empty")
    axis.set_ylabel("tokens on the device")
    axis.set_ylim(bottom=0)
    grid(axis)
    axis.legend(fontsize=8, loc="upper left")
    axis.set_title(f"Memory held while users come: {name}")


def _promotions(axis: Axes, results: Results) -> None:
    for number, (name, workload) in enumerate(results.items()):
        samples = workload[SELECTED.name][COLD]["occupancy"]
        times = [sample["at"] for sample in samples]
        axis.step(
            times,
            [sample["promotions"] for sample in samples],
            where="post",
            color=f"C{number}",
            label=name,
        )
    axis.set_xlabel("seconds since the cache was empty")
    axis.set_ylabel("promotions so far")
    axis.set_ylim(bottom=0)
    grid(axis)
    axis.legend(fontsize=8, loc="upper left")
    axis.set_title("Nodes that became public (selective)")
