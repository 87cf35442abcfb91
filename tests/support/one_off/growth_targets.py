"""What is asked of the samples: that nothing grows once all tables are full."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from report.target import Target

from sglang.srt.tenancy.detect.scan_cache import ScanCache
from sglang.srt.tenancy.http.response_store import MOST_STORED
from support.one_off.samples import Sample, slope

# Bytes for each user who was there, over the second half: one string of a name takes as many, and
# an entry of a table more.
MOST_BYTES = 64.0
# Of a whole server: allocators and upstream settle for longer than it runs.
MOST_BYTES_OF_A_SERVER = 256.0
# Live nodes for each node of the tree: those that wait for a lock, or in a queue to be skipped.
MOST_NODES = 2.0


def targets(results: dict[str, Any]) -> Iterator[Target]:
    """Each with what was measured."""
    tree, http = results["tree"]["samples"], results["http"]["samples"]
    yield _bytes("scheduler's memory", tree, "rss", MOST_BYTES)
    nodes = max(sample["nodes"] / sample["nodes_of_the_tree"] for sample in _half(tree))
    shown = f"{nodes:.2f} at most; {MOST_NODES} are asked"
    yield Target("live nodes for each node of the tree", nodes, MOST_NODES, shown=shown)
    for name in ("names", "device_order", "host_order", "tables"):
        yield _entries(f"scheduler's {name}", tree, name)
    yield _bytes("HTTP process's memory", http, "rss", MOST_BYTES)
    capacities = {"standings": 0, "responses": MOST_STORED, "chunks": ScanCache().capacity}
    for name, capacity in capacities.items():
        yield _entries(f"HTTP process's {name}", http, name, capacity)
    server = results["server"]["samples"]
    for name in server[0]:
        if name != "users":
            yield _bytes(f"server's {name} process", server, name, MOST_BYTES_OF_A_SERVER)


def rows(found: list[Target]) -> list[dict[str, Any]]:
    """As the results file has them."""
    fields = {"what": "name", "asked": "bound", "measured": "value"}
    return [target.row(**fields, found="shown", reached="met") for target in found]


def _bytes(what: str, samples: list[Sample], name: str, most: float) -> Target:
    each = slope(samples, name) / 1000
    shown = f"{each:+.1f} bytes a user in the second half; {most:.0f} at most are asked"
    return Target(what, each, most, shown=shown)


def _entries(what: str, samples: list[Sample], name: str, capacity: int = 0) -> Target:
    """A table that is full goes up and down by a part of itself, whoever comes.

    ``capacity``: entries that it may hold.
    """
    half = _half(samples)
    quarter = len(half) // 2
    former, latter = (max(s[name] for s in part) for part in (half[:quarter], half[quarter:]))
    most = max(1.1 * former + 64, capacity)
    shown = f"{latter:,.0f} at most in the last quarter, {most:,.0f} are asked"
    return Target(f"entries of the {what}", latter, most, shown=shown)


def _half(samples: list[Sample]) -> list[Sample]:
    return samples[len(samples) // 2 :]
