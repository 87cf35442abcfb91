"""The cost of a round against how many wait."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, NullLocator

from round_cost.rounds import SITUATIONS

matplotlib.use("Agg")
import matplotlib.pyplot as plt

_STYLES = {
    "fcfs": ("#444444", "--"),
    "lpm": ("#8e6bb0", ":"),
    "dfs-weight": ("#c0392b", ":"),
    "vtc": ("#1f6fb2", "-"),
    "dlpm": ("#2e8b57", "-"),
}


def draw(results: dict[str, Any], path: Path) -> None:
    figure, axes = plt.subplots(2, 2, figsize=(12, 8), sharex=True, layout="constrained")
    for column, situation in enumerate(SITUATIONS):
        runs = [run for run in results["runs"] if run["situation"] == situation]
        _times(axes[0, column], runs)
        _ratios(axes[1, column], runs, results["asked"])
        axes[0, column].set_title(situation)
        axes[1, column].set_xlabel("requests waiting (ten to a user)")
    axes[0, 0].set_ylabel("milliseconds of a round, median")
    axes[1, 0].set_ylabel("times fcfs's round, 95 % interval")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)
    figure.suptitle("What a round of the scheduler costs", fontsize=15)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _times(axis: Axes, runs: list[dict[str, Any]]) -> None:
    waiting = [run["waiting"] for run in runs]
    for policy in runs[0]["policies"]:
        colour, style = _STYLES[policy]
        values = [run["policies"][policy]["us"] / 1000 for run in runs]
        axis.loglog(waiting, values, style, color=colour, marker="o", markersize=4, label=policy)
    axis.set_ylim(0.02, 500)
    axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    _sizes(axis, waiting)


def _ratios(axis: Axes, runs: list[dict[str, Any]], asked: float) -> None:
    """Without dfs-weight, which would hide the others."""
    waiting = [run["waiting"] for run in runs]
    policies = [name for name in runs[0]["policies"] if name not in ("fcfs", "dfs-weight")]
    for number, policy in enumerate(policies):
        colour, style = _STYLES[policy]
        found = [run["policies"][policy] for run in runs]
        middle = [each["ratio"] for each in found]
        errors = [
            [each["ratio"] - each["low"] for each in found],
            [each["high"] - each["ratio"] for each in found],
        ]
        places = [n * 1.06 ** (number - 1) for n in waiting]
        axis.errorbar(places, middle, errors, color=colour, ls=style, marker="o", ms=4, capsize=3)
    axis.axhline(1.0, color="#444444", ls="--", lw=1)
    most = waiting[-1]
    axis.plot([most / 2, most * 2], [asked, asked], color="#c0392b", lw=2)
    axis.annotate(
        f"asked: at most {asked}",
        (most * 2, asked),
        xytext=(0, 22),
        textcoords="offset points",
        ha="right",
        fontsize=9,
        color="#c0392b",
    )
    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.set_ylim(0.8, 16)
    axis.set_yticks([1, asked, 2, 5, 10])
    axis.yaxis.set_minor_locator(NullLocator())
    axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    _sizes(axis, waiting)


def _sizes(axis: Axes, waiting: list[int]) -> None:
    axis.set_xticks(waiting)
    axis.xaxis.set_minor_locator(NullLocator())
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axis.grid(True, which="major", alpha=0.3)
