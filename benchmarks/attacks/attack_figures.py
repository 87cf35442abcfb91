"""The attacks in pictures: one page of results, and what the times looked like."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import accumulate
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from report.figure import BLUE, GREY, RED, drawn, grid, grouped_bars, legend_outside, shifts

Results = Mapping[str, Mapping[str, Any]]

GREEN = "#3f8f5f"
COLOURS = {
    "upstream": RED,
    "shared": "#e67e22",
    "isolated": GREY,
    "selective": BLUE,
    "selective-rules": "#6c3483",
    "selective-dp": GREEN,
}
THRESHOLD = 3  # users that make content public, by default


def draw(results: Results, path: Path) -> None:
    title = "What an attacker learns of other users' prompts"
    with drawn(path, 2, 3, size=(16, 9), title=title) as (figure, axes):
        _auc_by_length(axes[0, 0], results, "by_time", "Told by time to first token")
        _auc_by_length(axes[0, 1], results, "by_count", "Told by cached_tokens")
        _recovered(axes[0, 2], results)
        _host_tier(axes[1, 0], results)
        _colluding(axes[1, 1], results)
        _monitor(axes[1, 2], results)
        handles = [Line2D([], [], color=COLOURS[name], lw=6, label=name) for name in results]
        place: Any = "outside lower center"
        figure.legend(handles=handles, loc=place, ncols=len(handles), frameon=False)


def _auc_by_length(axis: Axes, results: Results, signal: str, title: str) -> None:
    lengths = list(next(iter(results.values()))["membership"])
    distances = shifts(len(results), 0.09 * len(results))
    for shift, (name, result) in zip(distances, results.items(), strict=True):
        each = [result["membership"][length][signal] for length in lengths]
        axis.errorbar(
            [place + shift for place in range(len(lengths))],
            [separation["auc"] for separation in each],
            yerr=[
                [separation["auc"] - separation["low"] for separation in each],
                [separation["high"] - separation["auc"] for separation in each],
            ],
            fmt="o",
            markersize=5,
            capsize=3,
            color=COLOURS[name],
        )
    axis.set_xticks(range(len(lengths)), [str(length) for length in lengths])
    axis.set_xlabel("tokens of the guessed prefix")
    _auc_axis(axis)
    axis.set_title(title)


def _auc_axis(axis: Axes) -> None:
    axis.axhline(0.5, color="black", lw=1, ls=":")
    axis.set_ylim(-0.03, 1.05)
    axis.set_ylabel("AUC (0.5: tells nothing)")
    grid(axis, "y")


def _recovered(axis: Axes, results: Results) -> None:
    first = next(iter(results.values()))["recovery"]
    names = [f"{case['how'].split()[0]}s,\n{case['signal']}" for case in first]
    shares = {name: [r["share"] for r in result["recovery"]] for name, result in results.items()}
    grouped_bars(axis, names, shares, COLOURS, width=0.8, labelled=False, fontsize=8)
    axis.axhline(first[0]["chance"], color="black", lw=1, ls=":", label="guessing")
    axis.set_ylim(0, 1.18)
    axis.set_ylabel("share recovered")
    axis.set_title("Secrets in a template, piece by piece")
    axis.legend(loc="upper right", fontsize=8)


def _host_tier(axis: Axes, results: Results) -> None:
    for number, (name, result) in enumerate(results.items()):
        for offset, key, marker in ((-0.12, "ms_hit", "o"), (0.12, "ms_miss", "x")):
            values = result["host_tier"][key]
            places = [number + offset] * len(values)
            axis.scatter(places, values, marker=marker, s=22, color=COLOURS[name], alpha=0.7)
    axis.set_xticks(range(len(results)), list(results), fontsize=8)
    axis.set_ylim(bottom=0)
    axis.set_ylabel("ms to first token")
    axis.set_title("Prompts that have moved to host memory\n(o right guess, x wrong guess)")


def _colluding(axis: Axes, results: Results) -> None:
    distances = shifts(len(results), 0.05 * len(results))  # or equal lines would hide each other
    for shift, (name, result) in zip(distances, results.items(), strict=True):
        for content, style in (("plain", "-o"), ("flagged", ":s")):
            cases = [c for c in result["collusion"] if c["content"] == content]
            told = [(c["confirmed"] - c["false"]) / c["guesses"] for c in cases]
            best = list(accumulate(told, max))  # nobody has to use all of their accounts
            places = [c["accounts"] + shift for c in cases]
            axis.plot(places, best, style, color=COLOURS[name], markersize=5, alpha=0.8)
    axis.axvline(THRESHOLD, color="black", lw=1, ls=":")
    axis.set_xticks(sorted({c["accounts"] for r in results.values() for c in r["collusion"]}))
    axis.set_xlabel("colluding accounts")
    axis.set_ylim(-0.05, 1.05)
    axis.set_ylabel("right guesses told from wrong ones")
    axis.set_title("Planting guesses with several accounts\n(solid plain, dotted a card number)")
    grid(axis, "y")


def _monitor(axis: Axes, results: Results) -> None:
    for name, result in results.items():
        hits = [window["hits_so_far"] for window in result["monitor"]]
        for signal, style in (("by_time", "-o"), ("by_count", ":s")):
            aucs = [window[signal]["auc"] for window in result["monitor"]]
            axis.plot(hits, aucs, style, color=COLOURS[name], markersize=4, alpha=0.8)
    axis.set_xlabel("probes of one public prompt so far")
    _auc_axis(axis)
    axis.set_title("The probe monitor at work\n(solid by time, dotted by cached_tokens)")


def draw_times(results: Results, path: Path) -> None:
    """Times to the first token of right and wrong guesses, for each mode and length."""
    lengths = list(next(iter(results.values()))["membership"])
    rows, columns = len(results), len(lengths)
    size = 3.4 * columns, 1.7 * rows + 0.8
    with drawn(path, rows, columns, size=size, sharex="col", squeeze=False) as (figure, axes):
        for row, (name, result) in zip(axes, results.items(), strict=True):
            for axis, length in zip(row, lengths, strict=True):
                each = result["membership"][length]
                _densities(axis, each)
                title = f"{name}, {length} tokens: AUC {each['by_time']['auc']:.2f}"
                axis.set_title(title, fontsize=9)
        for axis in axes[-1]:
            axis.set_xlabel("ms to first token")
        legend_outside(figure, axes[0, 0], "upper")


def _densities(axis: Axes, each: Mapping[str, Any]) -> None:
    both = sorted([*each["ms_hit"], *each["ms_miss"]])
    # A few stragglers would squeeze all the others into one bar.
    top = both[int(0.95 * (len(both) - 1))] * 1.2
    bins = [both[0] * 0.95 + (top - both[0] * 0.95) * n / 24 for n in range(25)]
    for key, colour, label in (
        ("ms_hit", RED, "somebody said it"),
        ("ms_miss", "#34495e", "nobody did"),
    ):
        values = [min(value, top) for value in each[key]]
        axis.hist(values, bins, color=colour, alpha=0.55, label=label)
    axis.set_yticks([])
