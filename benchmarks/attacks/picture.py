"""The attacks in pictures: one page of results, and what the times looked like."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import accumulate
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

matplotlib.use("Agg")
import matplotlib.pyplot as plt

Results = Mapping[str, Mapping[str, Any]]

COLOURS = {
    "upstream": "#c0392b",
    "shared": "#e67e22",
    "isolated": "#7f8c8d",
    "selective": "#1f6fb2",
    "selective-rules": "#6c3483",
}
THRESHOLD = 3  # users that make content public, by default


def draw(results: Results, path: Path) -> None:
    figure, axes = plt.subplots(2, 3, figsize=(16, 9), layout="constrained")
    _auc_by_length(axes[0, 0], results, "by_time", "Told by time to first token")
    _auc_by_length(axes[0, 1], results, "by_count", "Told by cached_tokens")
    _recovered(axes[0, 2], results)
    _host_tier(axes[1, 0], results)
    _colluding(axes[1, 1], results)
    _monitor(axes[1, 2], results)
    handles = [Line2D([], [], color=COLOURS[name], lw=6, label=name) for name in results]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False)
    figure.suptitle("What an attacker learns of other users' prompts", fontsize=16)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _auc_by_length(axis: Axes, results: Results, signal: str, title: str) -> None:
    lengths = list(next(iter(results.values()))["membership"])
    for number, (name, result) in enumerate(results.items()):
        each = [result["membership"][length][signal] for length in lengths]
        aucs = [separation["auc"] for separation in each]
        shift = (number - (len(results) - 1) / 2) * 0.09
        axis.errorbar(
            [place + shift for place in range(len(lengths))],
            aucs,
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
    axis.grid(True, axis="y", alpha=0.3)


def _recovered(axis: Axes, results: Results) -> None:
    cases = [(r["how"], r["signal"]) for r in next(iter(results.values()))["recovery"]]
    width = 0.8 / len(results)
    for number, (name, result) in enumerate(results.items()):
        places = [place + (number - (len(results) - 1) / 2) * width for place in range(len(cases))]
        axis.bar(places, [r["share"] for r in result["recovery"]], width, color=COLOURS[name])
    chance = next(iter(results.values()))["recovery"][0]["chance"]
    axis.axhline(chance, color="black", lw=1, ls=":", label="guessing")
    names = [f"{how.split()[0]}s,\n{signal}" for how, signal in cases]
    axis.set_xticks(range(len(cases)), names, fontsize=8)
    axis.set_ylim(0, 1.18)
    axis.set_ylabel("share recovered")
    axis.set_title("Secrets in a template, piece by piece")
    axis.legend(loc="upper right", fontsize=8)


def _host_tier(axis: Axes, results: Results) -> None:
    for number, (name, result) in enumerate(results.items()):
        for offset, key, marker in ((-0.12, "ms_hit", "o"), (0.12, "ms_miss", "x")):
            values = result["host_tier"][key]
            axis.scatter(
                [number + offset] * len(values),
                values,
                marker=marker,
                s=22,
                color=COLOURS[name],
                alpha=0.7,
            )
    axis.set_xticks(range(len(results)), list(results), fontsize=8)
    axis.set_ylim(bottom=0)
    axis.set_ylabel("ms to first token")
    axis.set_title("Prompts that have moved to host memory\n(o right guess, x wrong guess)")


def _colluding(axis: Axes, results: Results) -> None:
    for number, (name, result) in enumerate(results.items()):
        shift = (number - (len(results) - 1) / 2) * 0.05  # or equal lines would hide each other
        for content, style in (("plain", "-o"), ("flagged", ":s")):
            cases = [c for c in result["collusion"] if c["content"] == content]
            told = [(c["confirmed"] - c["false"]) / c["guesses"] for c in cases]
            axis.plot(
                [c["accounts"] + shift for c in cases],
                list(accumulate(told, max)),  # nobody has to use all of their accounts
                style,
                color=COLOURS[name],
                markersize=5,
                alpha=0.8,
            )
    axis.axvline(THRESHOLD, color="black", lw=1, ls=":")
    axis.set_xticks(sorted({c["accounts"] for r in results.values() for c in r["collusion"]}))
    axis.set_xlabel("accounts in one hand")
    axis.set_ylim(-0.05, 1.05)
    axis.set_ylabel("right guesses told from wrong ones")
    axis.set_title("Planting guesses with several accounts\n(solid plain, dotted a card number)")
    axis.grid(True, axis="y", alpha=0.3)


def _monitor(axis: Axes, results: Results) -> None:
    for name, result in results.items():
        windows = result["monitor"]
        for signal, style in (("by_time", "-o"), ("by_count", ":s")):
            axis.plot(
                [window["hits_so_far"] for window in windows],
                [window[signal]["auc"] for window in windows],
                style,
                color=COLOURS[name],
                markersize=4,
                alpha=0.8,
            )
    axis.set_xlabel("probes of one public prompt so far")
    _auc_axis(axis)
    axis.set_title("The probe monitor at work\n(solid by time, dotted by cached_tokens)")


def draw_times(results: Results, path: Path) -> None:
    """Times to the first token of right and wrong guesses, for each mode and length."""
    lengths = list(next(iter(results.values()))["membership"])
    figure, axes = plt.subplots(
        len(results),
        len(lengths),
        figsize=(3.4 * len(lengths), 1.7 * len(results) + 0.8),
        layout="constrained",
        sharex="col",
        squeeze=False,
    )
    for row, (name, result) in zip(axes, results.items(), strict=True):
        for axis, length in zip(row, lengths, strict=True):
            each = result["membership"][length]
            _densities(axis, each)
            axis.set_title(f"{name}, {length} tokens: AUC {each['by_time']['auc']:.2f}", fontsize=9)
    for axis in axes[-1]:
        axis.set_xlabel("ms to first token")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=2, frameon=False)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _densities(axis: Axes, each: Mapping[str, Any]) -> None:
    both = sorted([*each["ms_hit"], *each["ms_miss"]])
    # A few stragglers would squeeze all the others into one bar.
    top = both[int(0.95 * (len(both) - 1))] * 1.2
    bins = [both[0] * 0.95 + (top - both[0] * 0.95) * n / 24 for n in range(25)]
    for key, colour, label in (
        ("ms_hit", "#c0392b", "somebody said it"),
        ("ms_miss", "#34495e", "nobody did"),
    ):
        values = [min(value, top) for value in each[key]]
        axis.hist(values, bins, color=colour, alpha=0.55, label=label)
    axis.set_yticks([])
