"""Memory and live objects, drawn over the users who came."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from report.figure import BLUE, GREY, RED, THOUSANDS, drawn, grid

from support.one_off.samples import Sample

MIB = 2**20
Lines = Mapping[str, tuple[str, str]]  # name -> label, colour

NODES: Lines = {
    "nodes": ("live nodes", BLUE),
    "nodes_of_the_tree": ("nodes of the tree", "#7fb2dd"),
    "names": ("names of owners", RED),
    "device_order": ("entries, order of the device", "#4d7a2f"),
    "host_order": ("entries, order of the host", "#a9c98f"),
    "tables": ("entries of the tree's own tables", GREY),
}
TABLES: Lines = {
    "chunks": ("detector: remembered chunks", BLUE),
    "responses": ("stored responses", RED),
    "standings": ("limits: users remembered", "#4d7a2f"),
}
PROCESSES: Lines = {
    "http": ("HTTP", RED),
    "scheduler": ("scheduler", BLUE),
    "detokenizer": ("detokenizer", GREY),
    "detector": ("detector", "#4d7a2f"),
}


def draw(results: dict[str, Any], path: Path) -> None:
    """Above resident memory, below what is alive in it."""
    title = f"What {results['users']:,} users who come once leave behind"
    with drawn(path, 2, 3, size=(19, 9), title=title, dpi=100) as (_, axes):
        tree, http = results["tree"]["samples"], results["http"]["samples"]
        _memory(axes[0][0], tree, {"rss": ("scheduler's side", BLUE)}, "The tree, both tiers")
        _memory(axes[0][1], http, {"rss": ("HTTP side", RED)}, "All before the engine")
        server = results["server"]["samples"]
        _memory(axes[0][2], server, PROCESSES, "A whole server on the CPU")
        _entries(axes[1][0], tree, NODES)
        _entries(axes[1][1], http, TABLES)
        _changes(axes[1][2], server)


def _memory(axis: Axes, samples: list[Sample], lines: Lines, title: str) -> None:
    _plot(axis, samples, lines, MIB)
    axis.set_ylim(bottom=0)
    axis.set_ylabel("resident memory, MiB")
    axis.set_title(title)


def _entries(axis: Axes, samples: list[Sample], lines: Lines) -> None:
    _plot(axis, samples, lines, 1)
    axis.set_yscale("symlog", linthresh=10)
    axis.set_ylim(bottom=0)
    axis.set_ylabel("alive")


def _changes(axis: Axes, samples: list[Sample]) -> None:
    """From the middle on: on the scale of the whole, nothing would be seen."""
    middle = samples[len(samples) // 2]
    changed = [
        {name: at if name == "users" else at - middle[name] for name, at in sample.items()}
        for sample in samples
    ]
    _plot(axis, changed, PROCESSES, MIB)
    axis.axhline(0, color="black", linewidth=0.8)
    axis.set_ylabel("against the middle, MiB")


def _plot(axis: Axes, samples: list[Sample], lines: Lines, unit: float) -> None:
    users = [sample["users"] for sample in samples]
    for name, (label, colour) in lines.items():
        if name in samples[0]:
            axis.plot(users, [s[name] / unit for s in samples], color=colour, label=label)
    axis.set_xlabel("users so far")
    axis.xaxis.set_major_formatter(THOUSANDS)
    grid(axis)
    axis.legend(fontsize=9)
