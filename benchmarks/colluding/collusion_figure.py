"""Advantage against bound, sharing against crowd, and how many votes make a prefix public."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from report.figure import BLUE, GREY, ORANGE, PURPLE, RED, SAND, drawn, grid, only_ticks

from colluding.cells import COUNT, SETTINGS, Setting
from colluding.collusion_table import Results

COLOURS = {COUNT.name: RED} | dict(
    zip((setting.name for setting in SETTINGS), (BLUE, ORANGE, GREY, PURPLE), strict=True)
)


def draw(results: Results, path: Path) -> None:
    title = "Promotion by private votes: what colluding accounts learn, and what it costs"
    shape = {"width_ratios": (1.5, 1, 1)}
    with drawn(path, 1, 3, size=(20, 7), title=title, dpi=100, gridspec_kw=shape) as (_, axes):
        _attacks(axes[0], results["attacks"])
        _crowds(axes[1], results["crowds"])
        _votes(axes[2])


def _attacks(axis: Axes, rows: Sequence[dict[str, Any]]) -> None:
    for place, row in enumerate(reversed(rows)):
        counts = row["setting"] == COUNT.name
        colour = COLOURS[row["setting"]]
        errors = [[row["value"] - row["low"]], [row["high"] - row["value"]]]
        axis.errorbar(row["value"], place, xerr=errors, fmt="o", color=colour, capsize=3)
        if not counts:
            axis.plot([row["bound"]] * 2, [place - 0.4, place + 0.4], color=colour, linewidth=3)
    labels = [f"{row['setting']}: {row['attack']}, {row['accounts']}" for row in reversed(rows)]
    axis.set_yticks(range(len(rows)), labels, fontsize=8)
    axis.set_xlim(-0.05, 1.05)
    axis.set_xlabel("right guesses confirmed, less wrong ones (bars: the bound)")
    axis.set_title("Advantage of the best attack (attack, accounts)")
    grid(axis, "x")


def _crowds(axis: Axes, rows: Sequence[dict[str, Any]]) -> None:
    sizes = sorted({row["crowd"] for row in rows})
    for policy in ("salt", COUNT.name, *(one.name for one in SETTINGS)):
        kept = [100 * row["warm"] for row in rows if row["policy"] == policy]
        axis.plot(sizes, kept, "-o", color=COLOURS.get(policy, SAND), label=policy)
    axis.set_xscale("log")
    only_ticks(axis.xaxis, sizes)
    axis.set_xlabel("users per prefix in a voting window")
    axis.set_ylabel("of upstream's cached tokens kept, warm, %")
    axis.set_title("Sharing against crowd")
    grid(axis)
    axis.legend(fontsize=9)


def _votes(axis: Axes) -> None:
    for setting in SETTINGS:
        _chances(axis, setting)
    axis.set_xlabel("users who vote for a prefix in one window")
    axis.set_ylabel("chance that it becomes public at its end, %")
    axis.set_title("How many users it takes")
    grid(axis)
    axis.legend(fontsize=9)


def _chances(axis: Axes, setting: Setting) -> None:
    votes = range(setting.threshold.most + 2)
    chances = [100 * setting.threshold.chance(number) for number in votes]
    axis.plot(list(votes), chances, color=COLOURS[setting.name], label=setting.name)
