"""The attacks on the response cache in a picture."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from report.figure import BLUE, GREY, ORANGE, RED, drawn, grid, legend_outside, plain_numbers

Results = Mapping[str, Mapping[str, Any]]

_OFFSET = 0.18  # between the rows of one attack
_TIMES = (
    ("ms_first", "victim, first", GREY, -1.5),
    ("ms_wrong", "attacker, wrong guess", ORANGE, -0.5),
    ("ms_right", "attacker, right guess", RED, 0.5),
    ("ms_again", "victim, again", BLUE, 1.5),
)


def draw(results: Results, path: Path) -> None:
    """Draw what the clock tells of each attack, and the times themselves."""
    names = [f"{name}\n(must work)" if each["works"] else name for name, each in results.items()]
    title = "The response cache, asked by somebody else"
    size = 14, 1.4 + 0.5 * len(names)
    with drawn(path, 1, 2, size=size, title=title, sharey=True) as (figure, (auc, times)):
        _aucs(auc, results)
        _times(times, results)
        auc.set_yticks(range(len(names)), names)
        auc.invert_yaxis()
        legend_outside(figure, times)


def _aucs(axis: Axes, results: Results) -> None:
    for place, result in enumerate(results.values()):
        for shift, key, colour in ((-_OFFSET, "by_time", RED), (_OFFSET, "owner_by_time", BLUE)):
            each = result[key]
            errors = [[each["auc"] - each["wide_low"]], [each["wide_high"] - each["auc"]]]
            axis.errorbar(
                [each["auc"]], [place + shift], xerr=errors, fmt="o", capsize=3, color=colour
            )
    axis.axvline(0.5, color="black", lw=1, ls=":")
    axis.set_xlim(-0.03, 1.05)
    axis.set_xlabel("AUC by time to the first byte (0.5: tells nothing)")
    axis.set_title(
        "Right guesses against wrong ones (red),\nthe victim's own second requests (blue)"
    )
    grid(axis, "x")


def _times(axis: Axes, results: Results) -> None:
    for place, result in enumerate(results.values()):
        for key, label, colour, row in _TIMES:
            places = [place + row * _OFFSET] * len(result[key])
            name = label if place == 0 else None
            axis.scatter(result[key], places, s=12, color=colour, alpha=0.5, label=name)
    axis.set_xscale("log")
    plain_numbers(axis.xaxis, (1.0, 3.0))
    axis.set_xlabel("ms to the first byte")
    axis.set_title("Each request")
    grid(axis, "x")
