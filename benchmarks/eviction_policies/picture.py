"""What each policy finds, of LRU's for all, and of what they know for the worst-off."""

from __future__ import annotations

from pathlib import Path

import matplotlib
from matplotlib.axes import Axes

from eviction_policies.mixes import MIXES
from eviction_policies.policies import CHOSEN, POLICIES, UPSTREAM
from eviction_policies.targets import TOTAL, Results, row_of, total

matplotlib.use("Agg")
import matplotlib.pyplot as plt

COLOURS = {
    UPSTREAM: "#7f8c8d",
    "held": "#c0392b",
    "SLRU": "#e08e2b",
    "SLRU by owner": "#c8a165",
    "TinyLFU by owner": "#8e6bb0",
    CHOSEN: "#1f6fb2",
}
MOST = 2.0  # times LRU's that are drawn


def draw(results: Results, path: Path) -> None:
    figure, axes = plt.subplots(1, 2, figsize=(15, 9), sharey=True, layout="constrained")
    _totals(axes[0], results)
    _worst(axes[1], results)
    places = range(len(MIXES))
    axes[0].set_yticks(places, [mix.name for mix in MIXES])
    axes[0].invert_yaxis()
    for axis in axes:
        for place in places:
            axis.axhline(place + 0.5, color="#eeeeee", linewidth=1)
        axis.grid(True, axis="x", alpha=0.3)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncol=len(labels), frameon=False)
    figure.suptitle("Whom to evict: what is found again", fontsize=15)
    figure.savefig(path, dpi=100)
    plt.close(figure)


def _totals(axis: Axes, results: Results) -> None:
    for policy, height in _heights():
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
    axis.axvline(TOTAL, color="#1f6fb2", linestyle=":", linewidth=1)
    axis.set_xlim(0, MOST * 1.08)
    axis.set_title(f"All users: tokens found, as a multiple of LRU's (dotted: {TOTAL:g} asked)")


def _worst(axis: Axes, results: Results) -> None:
    for policy, height in _heights():
        values = [row_of(results, mix.name, policy)["worst_kind"] for mix in MIXES]
        places = [place + height for place in range(len(MIXES))]
        _dots(axis, policy, values, places)
    axis.set_xlim(-0.03, 1.03)
    axis.set_title("The worst-off kind of user: part found of what they asked for before")


def _heights() -> list[tuple[str, float]]:
    step = 0.8 / len(POLICIES)
    return [(policy, -0.4 + step * (n + 0.5)) for n, policy in enumerate(POLICIES)]


def _dots(axis: Axes, policy: str, values: list[float], places: list[float]) -> None:
    size = 55 if policy == CHOSEN else 26
    axis.scatter(values, places, s=size, color=COLOURS[policy], label=policy, zorder=3)
