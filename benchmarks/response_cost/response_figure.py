"""Latency and throughput of a repeated request, as a table and as a picture."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from report.figure import BLUE, GREY, RED, drawn, grid, plain_numbers
from report.table import aligned

Results = Mapping[str, Mapping[str, Any]]


def table(results: Results, stampedes: Mapping[str, Mapping[str, Any]]) -> str:
    """Return a row for each place."""
    head = ("", "p50 ms (1)", "p99 ms (1)", "p50 ms (64)", "p99 ms (64)", "requests/s (64)")
    rows = []
    for name, figures in results.items():
        one, many = figures["1"], figures["64"]
        cells = [one["p50_ms"], one["p99_ms"], many["p50_ms"], many["p99_ms"]]
        told = str(stampedes[name]["computations"]) if name in stampedes else ""
        rows.append((name, *(f"{ms:.3g}" for ms in cells), f"{many['per_second']:,.0f}", told))
    return aligned((*head, "computed of 500"), rows)


def draw(results: Results, path: Path) -> None:
    """Draw latencies at 1 and 64 connections, and requests in a second."""
    names = list(results)[::-1]
    places = range(len(names))
    title = "The same request again"
    with drawn(path, 1, 3, size=(15, 4.2), title=title, sharey=True) as (_, axes):
        for axis, connections in zip(axes, ("1", "64"), strict=False):
            figures = [results[name][connections] for name in names]
            axis.barh(places, [each["p50_ms"] for each in figures], color=_colours(names))
            axis.hlines(
                places,
                [each["p50_ms"] for each in figures],
                [each["p99_ms"] for each in figures],
                color="black",
                lw=1.2,
            )
            axis.set_title(f"ms at {connections} connection{'s' * (connections != '1')}")
            axis.set_xlabel("bar: median; line: to the 99th percentile")
        rates = [results[name]["64"]["per_second"] for name in names]
        axes[2].barh(places, rates, color=_colours(names))
        axes[2].set_title("Requests/s at 64 connections")
        axes[0].set_yticks(places, names)
        for axis in axes:
            axis.set_xscale("log")
            plain_numbers(axis.xaxis, (1.0, 3.0))
            grid(axis, "x")


def _colours(names: list[str]) -> list[str]:
    return [RED if "LiteLLM" in n else GREY if "no cache" in n else BLUE for n in names]
