"""A picture of each scenario: the live run above the replay."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from report.figure import grid, grouped_bars, plain_numbers, saved

from fair_service.overview import draw_overview
from fair_service.palette import OTHERS, PLACES, colours

Report = Mapping[str, Any]
VICTIM, QUIET = "#1f6fb2", "#b9c0c7"
BUSY = ("#c0392b", "#e67e22", "#c8a165", "#8e5a3c")  # users who always wait
NAMED = 6  # users; of more, those who are neither are grey and not named


def draw_all(report: Report, folder: Path) -> None:
    """``fairness.png`` and a PNG per scenario in ``fairness/``."""
    places = [place for place in PLACES if place in report]
    (folder / "fairness").mkdir(parents=True, exist_ok=True)
    names = dict.fromkeys(name for place in places for name in report[place]["scenarios"])
    for name in names:
        found = {
            place: report[place]["scenarios"][name]
            for place in places
            if name in report[place]["scenarios"]
        }
        draw_scenario(name, found, folder / "fairness" / f"{name.replace(' ', '-')}.png")
    draw_overview(report, folder / "fairness.png")


# One scenario


def draw_scenario(name: str, places: Mapping[str, Mapping[str, Any]], path: Path) -> None:
    """``places``: live and replay, each ``{"about", "victim", "policies": {...}}``."""
    most = max(len(found["policies"]) for found in places.values())
    figure = Figure(figsize=(max(12.0, 3.2 * most), 4.4 * len(places)), layout="constrained")
    about = next(iter(places.values()))["about"]
    with saved(figure, path, 90):
        figure.suptitle(f"{name}: {about}", fontsize=14)
        rows = figure.subfigures(len(places), 1, squeeze=False, hspace=0.05)[:, 0]
        for row, (place, found) in zip(rows, places.items(), strict=True):
            row.suptitle(PLACES[place], fontsize=11, x=0.01, ha="left", color="#444444")
            top, bottom = row.subfigures(2, 1)
            _services(top, found)
            _waits_and_shares(bottom, found)


def _services(figure: Any, found: Mapping[str, Any]) -> None:
    """Service of each user over time, one small chart for each policy."""
    axes = np.atleast_1d(figure.subplots(1, len(found["policies"]), sharey=True, sharex=True))
    users = _users_of(found)
    for axis, (policy, figures) in zip(axes, found["policies"].items(), strict=True):
        curves = figures["curves"]
        for user, (colour, front) in users.items():
            if user in curves["service"]:
                axis.plot(
                    curves["times"],
                    curves["service"][user],
                    color=colour,
                    lw=2 if front else 1,
                    zorder=3 if front else 2,
                    label=user if front or len(users) <= NAMED else None,
                )
        axis.set_title(policy, fontsize=10)
        axis.set_xlabel("seconds", fontsize=8)
        grid(axis)
        axis.tick_params(labelsize=8)
    axes[0].set_ylabel("service so far,\ntokens by price / weight", fontsize=8)
    _beside(axes[-1], _legend_title(found))


def _beside(axis: Axes, title: str | None = None) -> None:
    """A legend to the right of a chart, where it hides nothing."""
    axis.legend(
        fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0), title=title, title_fontsize=8
    )


def _legend_title(found: Mapping[str, Any]) -> str | None:
    return f"victim: {found['victim']}" if found["victim"] else None


def _users_of(found: Mapping[str, Any]) -> dict[str, tuple[str, bool]]:
    """User -> colour, and whether to draw it in front."""
    names = dict.fromkeys(u for f in found["policies"].values() for u in f["curves"]["service"])
    busy = iter(BUSY * (1 + len(found["backlogged"]) // len(BUSY)))
    drawn = {user: (next(busy), True) for user in found["backlogged"]}
    spare = iter(OTHERS)
    for user in names:
        if user == found["victim"]:
            drawn[user] = (VICTIM, True)
        elif user not in drawn:
            few = len(names) <= NAMED
            drawn[user] = (next(spare, QUIET) if few else QUIET, False)
    return drawn


def _waits_and_shares(figure: Any, found: Mapping[str, Any]) -> None:
    if found["victim"] is None:
        _shares(figure.subplots(), found)
        return
    left, right = figure.subplots(1, 2, width_ratios=[2, 3])
    _waits(left, found)
    _shares(right, found)


def _waits(axis: Axes, found: Mapping[str, Any]) -> None:
    """How many of the victim's requests had a first token by when."""
    palette = colours(list(found["policies"]))
    for policy, figures in found["policies"].items():
        waits = figures["curves"]["victim_waits"]
        come = [wait for wait in waits if wait is not None]
        parts = np.linspace(0, 100, len(waits))[: len(come)]
        axis.plot(come, parts, color=palette[policy], lw=2)
        if len(come) < len(waits) and come:
            axis.plot(come[-1:], parts[-1:], "x", color=palette[policy], ms=8)
    alone = next((a for a in map(_alone, found["policies"].values()) if a is not None), None)
    if alone is not None:
        axis.axvline(alone, color="#222222", ls=":", lw=1.5, label="alone, p99")
    axis.set_xscale("log")
    plain_numbers(axis.xaxis, numticks=12)
    axis.set_ylim(0, 103)
    axis.set_ylabel("% of its requests", fontsize=8)
    axis.set_xlabel("seconds to first token (x: the others never got one)", fontsize=8)
    axis.set_title(f"how long the victim ({found['victim']}) waits", fontsize=10)
    axis.tick_params(labelsize=8)
    grid(axis)
    if alone is not None:
        axis.legend(fontsize=7, loc="best")


def _alone(figures: Mapping[str, Any]) -> float | None:
    """Seconds: the victim's p99 when nobody else is there."""
    return ((figures["victim"] or {}).get("alone") or {}).get("p99")


def _shares(axis: Axes, found: Mapping[str, Any]) -> None:
    """What each user was served of what max-min fairness owes them."""
    policies, palette = found["policies"], colours(list(found["policies"]))
    users = list(dict.fromkeys(u for f in policies.values() for u in f["users"]))
    shares = {
        policy: [figures["users"].get(user, {}).get("share", 0.0) for user in users]
        for policy, figures in policies.items()
    }
    grouped_bars(axis, users, shares, palette, fontsize=8)
    axis.axhline(1, color="#222222", lw=1, ls=":")
    axis.set_title("served / entitled (1: all that max-min fairness owes)", fontsize=10)
    axis.tick_params(labelsize=8)
    grid(axis, "y")
    _beside(axis)
