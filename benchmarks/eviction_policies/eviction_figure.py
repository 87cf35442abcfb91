"""What each policy finds, of LRU's for all, and of what they know for the worst-off."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from report.figure import BLUE, GREY, ORANGE, PURPLE, RED, SAND, drawn, grid, legend_outside, shifts

from eviction_policies.eviction_targets import TOTAL, Results, row_of, total
from eviction_policies.mixes import MIXES
from eviction_policies.policies import CHOSEN, POLICIES, UPSTREAM

COLOURS = {
    UPSTREAM: GREY,
    "held": RED,
    "SLRU": ORANGE,
    "SLRU by owner": SAND,
    "TinyLFU by owner": PURPLE,
    CHOSEN: BLUE,
}
MOST = 2.0  # times LRU's that are drawn


def draw(results: Results, path: Path) -> None:
    title = "Whom to evict: what is found again"
    look: dict[str, Any] = {"size": (15, 9), "title_size": 15, "dpi": 100, "sharey": True}
    with drawn(path, 1, 2, title=title, **look) as (figure, axes):
        _totals(axes[0], results)
        _worst(axes[1], results)
        places = range(len(MIXES))
        axes[0].set_yticks(places, [mix.name for mix in MIXES])
        axes[0].invert_yaxis()
        for axis in axes:
            for place in places:
                axis.axhline(place + 0.5, color="#eeeeee", linewidth=1)
            grid(axis, "x")
        legend_outside(figure, axes[0])


def _totals(axis: Axes, results: Results) -> None:
    for policy, height in zip(POLICIES, shifts(len(POLICIES), 0.8), strict=True):
        values = [total(results, mix.name, policy) for mix in MIXES]
        places = [place + height for place in range(len(MIXES))]
        _dots(axis, policy, [min(value, MOST) for value in values], places)
        for value, place in zip(values, places, strict=True):
            if value > MOST and policy == CHOSEN:
                axis.annotate(
                    f"{value:.1f}",
                    (MOST, place),
                    xytext=(6, -3),
                    textcoords="offset points",
                    fontsize=8,
                )
    axis.axvline(TOTAL, color=BLUE, linestyle=":", linewidth=1)
    axis.set_xlim(0, MOST * 1.08)
    axis.set_title(f"All users: tokens found, as a multiple of LRU's (dotted: {TOTAL:g} asked)")


def _worst(axis: Axes, results: Results) -> None:
    for policy, height in zip(POLICIES, shifts(len(POLICIES), 0.8), strict=True):
        values = [row_of(results, mix.name, policy)["worst_kind"] for mix in MIXES]
        places = [place + height for place in range(len(MIXES))]
        _dots(axis, policy, values, places)
    axis.set_xlim(-0.03, 1.03)
    axis.set_title("The worst-off kind of user: part found of what they asked for before")


def _dots(axis: Axes, policy: str, values: list[float], places: list[float]) -> None:
    size = 55 if policy == CHOSEN else 26
    axis.scatter(values, places, s=size, color=COLOURS[policy], label=policy, zorder=3)
