"""The summary on one page: a row for each model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from report.figure import drawn, grid, grouped_bars, legend_outside
from sharing_cost.passes import AT_ONCE, WARM
from sharing_cost.sharing_figure import BARS, Bars

from gpu_cells.cells import ATTACK, SHARING

Figures = Mapping[str, Any]


def draw(report: Figures, path: Path) -> bool:
    """Returns False, and draws nothing, where no model was measured whole."""
    sharing = {
        model: workloads
        for model, workloads in report["summary"][SHARING].items()
        if all(method.name in each["methods"] for each in workloads.values() for method, *_ in BARS)
    }
    if not sharing:
        return False
    label = " (a CPU: says nothing of a GPU)" if report["device"] == "cpu" else ""
    title = f"What keeping users apart costs on {report['name']}{label}"
    size = (20.0, 1.0 + 4.6 * len(sharing))
    with drawn(path, len(sharing), 3, size=size, title=title, squeeze=False) as (figure, axes):
        for row, (model, workloads) in zip(axes, sharing.items(), strict=True):
            _first_tokens(row[0], model, workloads)
            _throughput(row[1], model, workloads)
            _attacked(row[2], model, report["summary"][ATTACK].get(model, {}))
        legend_outside(figure, axes[0, 0])
    return True


def _first_tokens(axis: Axes, model: str, workloads: Figures) -> None:
    _bars(axis, workloads, BARS, "ttft_mean")
    axis.set_ylabel("ms, mean")
    axis.set_title(f"{model}: time to first token")


def _throughput(axis: Axes, model: str, workloads: Figures) -> None:
    warm = [(who, AT_ONCE, colour, label) for who, stage, colour, label in BARS if stage == WARM]
    _bars(axis, workloads, warm, "tokens_per_second")
    axis.set_ylabel("prompt tokens per second")
    axis.set_title(f"{model}: throughput, all at once, warm")


def _bars(axis: Axes, workloads: Figures, bars: Bars, figure: str) -> None:
    heights = {
        label: [each["methods"][who.name][stage][figure]["value"] for each in workloads.values()]
        for who, stage, _, label in bars
    }
    grouped_bars(axis, list(workloads), heights, {label: colour for *_, colour, label in bars})
    grid(axis, "y")


def _attacked(axis: Axes, model: str, modes: Figures) -> None:
    colours = {who.name: colour for who, stage, colour, _ in BARS if stage == WARM}
    for number, (mode, found) in enumerate(modes.items()):
        aucs = list(found["auc"].items())
        places = [place + 0.12 * number for place in range(len(aucs))]
        values = [auc["auc"] for _, auc in aucs]
        below = [auc["auc"] - auc["wide_low"] for _, auc in aucs]
        above = [auc["wide_high"] - auc["auc"] for _, auc in aucs]
        axis.errorbar(places, values, [below, above], fmt="o", capsize=4, color=colours[mode])
        axis.set_xticks(range(len(aucs)), [f"{length} tokens" for length, _ in aucs])
    axis.axhline(0.5, color="black", lw=0.8)
    axis.set_ylim(0, 1.05)
    axis.margins(x=0.2)
    axis.set_title(f"{model}: hits told from misses by time (AUC; 0.5: nothing)")
    grid(axis, "y")
