"""What levers did, as a table and as a figure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from report.figure import BLUE, RED, drawn, grid, plain_numbers
from report.table import markdown

from engine_speed.lever import BASE, CHANGED

HEAD = (
    "lever",
    "setting",
    "workload",
    "first token p50, ms",
    "p99, ms",
    "total, s",
    "times as fast",
    "cached",
    "same answers",
)

Rows = Sequence[Mapping[str, Any]]


def cells(rows: Rows) -> Iterator[tuple[str, ...]]:
    """One line a lever and workload; before and after in one cell."""
    for row in rows:
        before, after = row["engines"][BASE], row["engines"][CHANGED]
        yield (
            row["lever"],
            row["setting"],
            row["workload"],
            _both(before["ttft_p50"]["value"], after["ttft_p50"]["value"]),
            _both(before["ttft_p99"]["value"], after["ttft_p99"]["value"]),
            _both(before["seconds"]["value"], after["seconds"]["value"], ".2f"),
            "{value:.2f} ({low:.2f} to {high:.2f})".format(**row["faster"]),
            f"{before['cached_share']:.0%} → {after['cached_share']:.0%}",
            f"{row['agreement']['equal']} of {row['agreement']['answers']}",
        )


def as_markdown(rows: Rows) -> str:
    lines = ["# What settings do", "", "Made by `make bench-levers`: without → with."]
    lines += ["What was measured, and how: [docs/levers.md](../../docs/levers.md).", ""]
    return "\n".join([*lines, *markdown(HEAD, cells(rows))]) + "\n"


def _both(before: float, after: float, form: str = ",.0f") -> str:
    return f"{before:{form}} → {after:{form}}"


def draw(rows: Rows, path: Path) -> None:
    title = "What settings do: with each, as a multiple of without"
    with drawn(path, 1, 2, size=(15, 0.5 * len(rows) + 2.2), title=title, sharey=True) as (_, axes):
        _multiples(axes[0], rows, [row["first_token"] for row in rows], RED)
        axes[0].set_xlabel("median time to the first token")
        totals = [_inverse(row["faster"]) for row in rows]
        _multiples(axes[1], rows, totals, BLUE)
        axes[1].set_xlabel("time for all answers")


def _inverse(value: Mapping[str, float]) -> dict[str, float]:
    return {"value": 1 / value["value"], "low": 1 / value["high"], "high": 1 / value["low"]}


def _multiples(axis: Axes, rows: Rows, values: Sequence[Mapping[str, float]], colour: str) -> None:
    middles = [each["value"] for each in values]
    errors = [
        [max(0.0, each["value"] - each["low"]) for each in values],
        [max(0.0, each["high"] - each["value"]) for each in values],
    ]
    axis.errorbar(middles, range(len(rows)), xerr=errors, fmt="o", color=colour, capsize=3)
    axis.axvline(1.0, color="#444444", lw=1)
    axis.set_xscale("log")
    plain_numbers(axis.xaxis)
    axis.set_yticks(range(len(rows)), [f"{row['lever']}: {row['workload']}" for row in rows])
    axis.set_ylim(len(rows) - 0.5, -0.5)
    grid(axis)
