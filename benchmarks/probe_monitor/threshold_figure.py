"""What each pair of thresholds costs ordinary users, and probers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter
from report.figure import BLUE, GREY, ORANGE, RED, drawn, grid, only_ticks

from probe_monitor.probers import ACCOUNTS, ALONE, PROBES, RARE
from probe_monitor.threshold_table import Results, at, false_share, probes
from probe_monitor.watched_cache import DEFAULT, Pair

NEVER = 2 * PROBES  # where "never" is drawn
SHOWN = (0.002, 0.004, 0.005, 0.01, 0.02, 0.05)
HITS = ((64, "#b9c7a5"), (128, "#8aa66b"), (256, "#4d7a2f"), (512, "#7d5ba6"), (1_024, "#3d2460"))
LINES = ((0.002, GREY), (0.004, BLUE), (0.01, ORANGE), (0.02, RED))


def draw(results: Results, path: Path) -> None:
    title = "The probe monitor's thresholds: whom they hit, and when"
    with drawn(path, 1, 3, size=(19, 6), title=title, dpi=100) as (_, axes):
        _tradeoff(axes[0], results)
        _teams(axes[1], results)
        _accounts(axes[2], results)


def _tradeoff(axis: Axes, results: Results) -> None:
    for hits, colour in HITS:
        pairs = [Pair(threshold, hits) for threshold in SHOWN]
        xs = [100 * false_share(results, pair) for pair in pairs]
        ys = [probes(results, pair, ALONE.name, 1) for pair in pairs]
        axis.plot(xs, [y or NEVER for y in ys], "-o", color=colour, label=f"min hits {hits:,}")
        if hits == HITS[0][0]:
            for pair, x, y in zip(pairs, xs, ys, strict=True):
                axis.annotate(
                    f"{pair.threshold:g}",
                    (x, y or NEVER),
                    xytext=(3, 8 if pair.threshold < DEFAULT.threshold else -15),
                    textcoords="offset points",
                )
    for name, style in (("default", "*"), ("former_default", "X")):
        pair = Pair(**results[name])
        label = f"{name.replace('_', ' ')}: {pair.threshold:g} / {pair.min_hits}"
        place_of = 100 * false_share(results, pair), probes(results, pair, ALONE.name, 1) or NEVER
        axis.plot(*place_of, style, color="black", markersize=13, label=label, zorder=5)
    axis.margins(x=0.08)
    axis.set_xlabel("shared prefixes of 5 and more ordinary users demoted, %")
    axis.set_ylabel("probes by one account until demotion")
    axis.set_title("Down and to the left is better (numbers: threshold)")
    _count_axis(axis, (32, 64, 128, 256, 512, 1_024))
    axis.legend(fontsize=9)


def _teams(axis: Axes, results: Results) -> None:
    hits = results["default"]["min_hits"]
    rows = [row for row in results["ordinary_users"] if row["zipf"] == 1.4]
    users = [row["users"] for row in rows]
    for threshold, colour in LINES:
        pair = Pair(threshold, hits)
        shares = [100 * at(results, row["demoted"], pair) / row["prefixes"] for row in rows]
        axis.plot(users, shares, "-o", color=colour, label=f"threshold {threshold:g}")
    axis.set_xscale("log")
    only_ticks(axis.xaxis, users)
    axis.set_xlabel("users of the server")
    axis.set_ylabel("of their shared prefixes demoted, %")
    axis.set_title(f"How many users are too few (min hits {hits})")
    grid(axis)
    axis.legend(fontsize=9)


def _accounts(axis: Axes, results: Results) -> None:
    default, former = (Pair(**results[name]) for name in ("default", "former_default"))
    for pair, colour in {former: RED, default: BLUE}.items():
        for scenario, style in ((ALONE, "-o"), (RARE, ":s")):
            ys = [probes(results, pair, scenario.name, accounts) for accounts in ACCOUNTS]
            label = f"{pair.threshold:g} / {pair.min_hits}, {scenario.name}"
            axis.plot(ACCOUNTS, [y or NEVER for y in ys], style, color=colour, label=label)
    axis.set_xticks(ACCOUNTS)
    axis.set_xlabel("colluding accounts")
    axis.set_ylabel("probes until demotion")
    axis.set_title("Several accounts look like a small team")
    _count_axis(axis, (64, 128, 256, 512, 1_024, 2_048, NEVER))
    axis.legend(fontsize=9, loc="lower right")


def _count_axis(axis: Axes, ticks: Sequence[int]) -> None:
    axis.set_yscale("log", base=2)
    axis.set_ylim(ticks[0] / 1.3, ticks[-1] * 1.3)
    axis.yaxis.set_major_locator(FixedLocator(ticks))
    axis.yaxis.set_major_formatter(
        FuncFormatter(lambda value, _: "never" if value >= NEVER else f"{value:,g}")
    )
    grid(axis)
