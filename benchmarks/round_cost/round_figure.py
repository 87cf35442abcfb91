"""The cost of a round against how many wait."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import NullLocator
from report.figure import BLUE, PLAIN, PURPLE, RED, drawn, legend_outside, only_ticks

from round_cost.rounds import SITUATIONS

_STYLES = {
    "fcfs": ("#444444", "--"),
    "lpm": (PURPLE, ":"),
    "dfs-weight": (RED, ":"),
    "vtc": (BLUE, "-"),
    "dlpm": ("#2e8b57", "-"),
}


def draw(results: dict[str, Any], path: Path) -> None:
    title = "What a round of the scheduler costs"
    look: dict[str, Any] = {"size": (12, 8), "title_size": 15, "sharex": True}
    with drawn(path, 2, 2, title=title, **look) as (figure, axes):
        for column, situation in enumerate(SITUATIONS):
            runs = [run for run in results["runs"] if run["situation"] == situation]
            _times(axes[0, column], runs)
            _ratios(axes[1, column], runs, results["asked"])
            axes[0, column].set_title(situation)
            axes[1, column].set_xlabel("requests waiting (ten to a user)")
        axes[0, 0].set_ylabel("milliseconds of a round, median")
        axes[1, 0].set_ylabel("times fcfs's round, 95 % interval")
        legend_outside(figure, axes[0, 0])


def _times(axis: Axes, runs: list[dict[str, Any]]) -> None:
    waiting = [run["waiting"] for run in runs]
    for policy in runs[0]["policies"]:
        colour, style = _STYLES[policy]
        values = [run["policies"][policy]["us"] / 1000 for run in runs]
        axis.loglog(waiting, values, style, color=colour, marker="o", markersize=4, label=policy)
    axis.set_ylim(0.02, 2_000)
    axis.yaxis.set_major_formatter(PLAIN)
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
    axis.plot([most / 2, most * 2], [asked, asked], color=RED, lw=2)
    axis.annotate(
        f"asked: at most {asked}",
        (most * 2, asked),
        xytext=(0, 22),
        textcoords="offset points",
        ha="right",
        fontsize=9,
        color=RED,
    )
    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.set_ylim(0.6, 16)
    axis.set_yticks([1, asked, 2, 5, 10])
    axis.yaxis.set_minor_locator(NullLocator())
    axis.yaxis.set_major_formatter(PLAIN)
    _sizes(axis, waiting)


def _sizes(axis: Axes, waiting: list[int]) -> None:
    only_ticks(axis.xaxis, waiting)
    axis.grid(True, which="major", alpha=0.3)
