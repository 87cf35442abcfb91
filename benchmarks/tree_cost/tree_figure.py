"""Cost of each operation against the size of the tree."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter
from report.figure import THOUSANDS, drawn, only_ticks, plain_numbers

from tree_cost.operations import OPERATIONS
from tree_cost.subjects import ISOLATED, SELECTIVE, SHARED, UPSTREAM

_STYLES = {UPSTREAM.name: "--", SHARED.name: ":", ISOLATED.name: "-.", SELECTIVE.name: "-"}
_COLOURS = ("C0", "C1", "C2", "C3", "C4")


def draw(results: dict[str, Any], path: Path) -> None:
    with drawn(path, 2, 3, size=(14, 8), layout=None, sharex=True) as (figure, axes):
        for axis, operation in zip(axes.flat, OPERATIONS, strict=True):
            _panel(axis, operation, results["runs"])
        for axis in axes[1]:
            axis.set_xlabel("leaves in the tree")
        for axis in axes[:, 0]:
            axis.set_ylabel("microseconds, median")
        _legend(figure, axes[0, 0])


def _panel(axis: Axes, operation: str, runs: list[dict[str, Any]]) -> None:
    for colour, users in zip(_COLOURS, sorted({run["users"] for run in runs}), strict=False):
        of_users = [run for run in runs if run["users"] == users]
        for which in of_users[0]["operations"][operation]["us"]:
            axis.loglog(
                [run["leaves"] for run in of_users],
                [run["operations"][operation]["us"][which] for run in of_users],
                _STYLES[which],
                marker="o",
                markersize=4,
                color=colour,
                label=f"{which}, {users:,} user{'s' if users > 1 else ''}",
            )
    axis.set_title(operation)
    low, high = axis.get_ylim()
    if high < 10 * low:  # or a panel of equals would look like one of differences
        axis.set_ylim(low / 3, high * 3)
    axis.grid(True, which="major", alpha=0.3)
    _label(axis, sorted({run["leaves"] for run in runs}))


def _label(axis: Axes, sizes: list[int]) -> None:
    """Plain numbers, and under the trees that there are."""
    only_ticks(axis.xaxis, sizes, FuncFormatter(_thousands))
    low, high = axis.get_ylim()
    plain_numbers(axis.yaxis, (1.0, 2.0, 5.0) if high < 1000 * low else (1.0,))
    axis.yaxis.set_major_formatter(THOUSANDS)


def _thousands(leaves: float, _: int) -> str:
    return f"{leaves / 1000:g}k" if leaves >= 1000 else f"{leaves:g}"


def _legend(figure: Figure, axis: Axes) -> None:
    handles, labels = axis.get_legend_handles_labels()
    columns = max(1, -(-len(labels) // 2))
    figure.legend(handles, labels, loc="lower center", ncol=columns, fontsize=9, frameon=False)
    figure.tight_layout(rect=(0, 0.07, 1, 1))
