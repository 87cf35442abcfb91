"""The price of keeping users apart, on one page."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes

from sharing_cost.comparison import AT_ONCE, COLD, WARM
from sharing_cost.contenders import DIVIDED, SALTED, SELECTED, SHARED_BY_ALL, Contender

matplotlib.use("Agg")
import matplotlib.pyplot as plt

Results = Mapping[str, Mapping[str, Mapping[str, Any]]]

# Contender, stage, colour, label.
BARS: Sequence[tuple[Contender, str, str, str]] = (
    (SHARED_BY_ALL, WARM, "#c0392b", "upstream: everybody shares all"),
    (SELECTED, WARM, "#1f6fb2", "selective, warm"),
    (SELECTED, COLD, "#8fbbe0", "selective, from an empty cache"),
    (DIVIDED, WARM, "#7f8c8d", "isolated"),
    (SALTED, WARM, "#c8b98a", "upstream, a salt per user"),
)


def draw(results: Results, path: Path) -> None:
    figure, axes = plt.subplots(2, 3, figsize=(20, 9.5), layout="constrained")
    _bars(axes[0, 0], results, lambda figures: figures["cached_share"] * 100)
    axes[0, 0].set_title("Prompt tokens found in the cache")
    axes[0, 0].set_ylabel("%")
    _bars(axes[0, 1], results, lambda f: f["ttft_mean"], lambda f: f["ttft_p95"])
    axes[0, 1].set_title("Time to first token: mean, and p95 (line)")
    axes[0, 1].set_ylabel("ms")
    _throughput(axes[0, 2], results)
    _warming(axes[1, 0], results)
    _occupancy(axes[1, 1], results)
    _promotions(axes[1, 2], results)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(BARS), frameon=False)
    figure.suptitle("What keeping users apart costs", fontsize=16)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _bars(
    axis: Axes,
    results: Results,
    value: Callable[[Mapping[str, Any]], float],
    top: Callable[[Mapping[str, Any]], float] | None = None,
) -> None:
    width = 0.84 / len(BARS)
    for number, (contender, stage, colour, label) in enumerate(BARS):
        figures = [workload[contender.name][stage] for workload in results.values()]
        places = [n + (number - (len(BARS) - 1) / 2) * width for n in range(len(results))]
        heights = [value(each) for each in figures]
        axis.bar(places, heights, width, color=colour, label=label)
        if top is not None:
            axis.vlines(places, heights, [top(each) for each in figures], color=colour, lw=1.5)
    axis.set_xticks(range(len(results)), list(results))
    axis.grid(True, axis="y", alpha=0.3)


def _throughput(axis: Axes, results: Results) -> None:
    contenders = [bar for bar in BARS if bar[1] == WARM]
    width = 0.84 / len(contenders)
    for number, (contender, _, colour, _) in enumerate(contenders):
        rates = [
            workload[contender.name][AT_ONCE]["tokens_per_second"] for workload in results.values()
        ]
        places = [n + (number - (len(contenders) - 1) / 2) * width for n in range(len(results))]
        axis.bar(places, rates, width, color=colour)
    axis.set_xticks(range(len(results)), list(results))
    axis.grid(True, axis="y", alpha=0.3)
    axis.set_ylabel("prompt tokens per second")
    axis.set_title("Throughput when all requests come at once, warm")


def _warming(axis: Axes, results: Results) -> None:
    """From an empty cache: how the share of cached tokens rises as users come."""
    for number, (name, workload) in enumerate(results.items()):
        for contender, style in ((SHARED_BY_ALL, ":"), (SELECTED, "-")):
            shares = workload[contender.name][COLD]["cached_by_request"]
            averages = [total / (n + 1) * 100 for n, total in enumerate(accumulate(shares))]
            axis.plot(
                range(1, len(averages) + 1),
                averages,
                style,
                color=f"C{number}",
                label=name if contender is SELECTED else None,
            )
    axis.set_xlabel("requests since the cache was empty")
    axis.set_ylabel("% of a prompt cached, mean so far")
    axis.set_ylim(0, 100)
    axis.grid(True, alpha=0.3)
    axis.legend(fontsize=8, loc="upper left")
    axis.set_title("Becoming public takes three users (dotted: upstream)")


def _occupancy(axis: Axes, results: Results) -> None:
    """Of the workload with the longest common texts, where copies cost most."""
    name = max(results, key=lambda name: results[name][SALTED.name][COLD]["computed_tokens"])
    for contender, _, colour, _ in (bar for bar in BARS if bar[1] == WARM):
        samples = results[name][contender.name][COLD]["occupancy"]
        times = [sample["at"] for sample in samples]
        axis.plot(times, [s["held"] for s in samples], color=colour, lw=2, label=contender.name)
        if contender is SELECTED:
            public = [s["public"] for s in samples]
            axis.fill_between(
                times, public, color=colour, alpha=0.2, label="selective: of it public"
            )
    axis.set_xlabel("seconds since the cache was empty")
    axis.set_ylabel("tokens on the device")
    axis.set_ylim(bottom=0)
    axis.grid(True, alpha=0.3)
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
    axis.grid(True, alpha=0.3)
    axis.legend(fontsize=8, loc="upper left")
    axis.set_title("Nodes that became public (selective)")
