"""The engines on one page: a column for each workload."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from report.figure import drawn, grid, plain_numbers

from engine_speed.contenders import COLOURS

Engines = Mapping[str, Mapping[str, Any]]
Value = Mapping[str, float]

OTHER = "#444444"


def draw(workloads: Mapping[str, Mapping[str, Any]], path: Path) -> None:
    title = "The same model, prompts and answers on several engines"
    size = (5.6 * len(workloads), 7.5)
    look: dict[str, Any] = {"size": size, "squeeze": False}
    with drawn(path, 2, len(workloads), title=title, **look) as (_, axes):
        for column, (name, found) in enumerate(workloads.items()):
            engines = found["engines"]
            _first_tokens(axes[0, column], engines)
            _speed(axes[1, column], engines)
            axes[0, column].set_title(f"{name}: {found['requests']} requests")


def _first_tokens(axis: Axes, engines: Engines) -> None:
    """No bars: on a logarithmic axis they would begin anywhere."""
    values = [engine["ttft_p50"] for engine in engines.values()]
    for place, (name, value) in enumerate(zip(engines, values, strict=True)):
        colour, tail = COLOURS.get(name, OTHER), engines[name]["ttft_p99"]["value"]
        axis.plot([value["value"], tail], [place, place], color=colour, lw=1.5, alpha=0.6)
        axis.errorbar(
            value["value"], place, xerr=_errors([value]), fmt="o", ms=8, color=colour, capsize=3
        )
        axis.scatter([tail], [place], marker="|", s=160, lw=2.5, color=colour)
    axis.set_xscale("log")
    plain_numbers(axis.xaxis)
    axis.set_xlabel("ms to the first token: median (dot), p99 (mark)")
    _named(axis, engines)


def _speed(axis: Axes, engines: Engines) -> None:
    values = [engine["tokens_per_second"] for engine in engines.values()]
    axis.barh(
        range(len(values)),
        [each["value"] for each in values],
        xerr=_errors(values),
        color=[COLOURS.get(name, OTHER) for name in engines],
        capsize=3,
        height=0.7,
    )
    axis.set_xlabel("tokens of answers per second, prompts' computation included")
    _named(axis, engines)


def _errors(values: Sequence[Value]) -> list[list[float]]:
    """How far each interval reaches to either side."""
    return [
        [max(0.0, each["value"] - each["low"]) for each in values],
        [max(0.0, each["high"] - each["value"]) for each in values],
    ]


def _named(axis: Axes, engines: Engines) -> None:
    """A line for each engine, the first on top."""
    axis.set_yticks(range(len(engines)), list(engines))
    axis.set_ylim(len(engines) - 0.5, -0.5)
    grid(axis, "x")
