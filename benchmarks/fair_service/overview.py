"""One picture of all scenarios, for the first page: the live run above the replay."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from report.figure import drawn, grid, plain_numbers, shifts

from fair_service.palette import COLOURS, ON_UPSTREAMS_CACHE, PLACES, colours

Value = Callable[[Mapping[str, Any]], float | None]


def _smallest(figures: Mapping[str, Any]) -> float | None:
    return float(figures["smallest_share"])


def _p95(figures: Mapping[str, Any]) -> float | None:
    victim = figures["victim"]
    return None if victim is None else victim["p95"]


def _rate(figures: Mapping[str, Any]) -> float | None:
    return float(figures["throughput"])


CHARTS: Sequence[tuple[str, str, Value]] = (
    ("Served / entitled of the worst-off user (1 is fair)", "", _smallest),
    ("Victim's time to first token, p95, s (x: never came)", "log", _p95),
    ("Throughput, tokens per second", "", _rate),
)


def draw_overview(report: Mapping[str, Any], path: Path) -> None:
    places = [place for place in PLACES if place in report]
    look: dict[str, Any] = {"title_size": 15, "dpi": 100, "squeeze": False}
    size, title = (19, 4.3 * len(places)), "Who gets served when users compete"
    with drawn(path, len(places), 3, size=size, title=title, **look) as (figure, axes):
        shown: dict[str, Any] = {}
        for row, place in zip(axes, places, strict=True):
            scenarios = report[place]["scenarios"]
            for axis, (title_of_it, scale, value) in zip(row, CHARTS, strict=True):
                shown |= _bars(axis, scenarios, value, scale)
                axis.set_title(f"{title_of_it}\n{PLACES[place]}", fontsize=10)
            row[0].axhline(1, color="#222222", lw=1, ls=":")
        _legend(figure, shown)


def _legend(figure: Figure, shown: Mapping[str, Any]) -> None:
    order = [
        *(policy for policy in COLOURS if policy in shown),
        *(p for p in shown if p not in COLOURS),
    ]
    figure.legend(
        [shown[policy] for policy in order],
        order,
        loc="outside lower center",
        ncols=len(shown),
        frameon=False,
        title="upstream: fcfs, lpm, dfs-weight; the fork: vtc, dlpm",
    )


def _bars(axis: Axes, scenarios: Mapping[str, Any], value: Value, scale: str) -> dict[str, Any]:
    """Policy -> its bars."""
    known = {n: s for n, s in scenarios.items() if scale != "log" or s["victim"] is not None}
    names = dict.fromkeys(p for each in known.values() for p in each["policies"])
    # Only one scenario has those: its own picture shows them.
    policies = [name for name in names if not name.startswith(ON_UPSTREAMS_CACHE)]
    palette, drawn = colours(policies), {}
    width = 0.84 / max(1, len(policies))
    if scale == "log":
        axis.set_yscale("log")
        plain_numbers(axis.yaxis, numticks=12)
    for shift, policy in zip(shifts(len(policies)), policies, strict=True):
        for place, scenario in enumerate(known.values()):
            if policy not in scenario["policies"]:
                continue
            height = value(scenario["policies"][policy])
            at = place + shift
            if height is None:
                axis.plot(
                    [at], [0.97], "x", color=palette[policy], transform=axis.get_xaxis_transform()
                )
            else:
                drawn[policy] = axis.bar([at], [height], width, color=palette[policy])
    axis.set_xticks(range(len(known)), [name.replace(" ", "\n", 1) for name in known], fontsize=8)
    grid(axis, "y")
    return drawn
