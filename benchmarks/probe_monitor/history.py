"""From one replay with the monitor switched off: whom would which thresholds have demoted, when?

That is exact for the first demotion of a prefix. Until then the monitor only looks, so the tree
and its counters are the same with any thresholds; and what happens to one prefix does not change
the counters of others. (``tests/test_bench_monitor.py`` compares with replays that demote.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from probe_monitor.watched_cache import Pair, Sight, Watched
from sglang.srt.tenancy.cache.core.node import Node, walk


@dataclass(frozen=True)
class History:
    """All looks at one public prefix: at its last node, and at those above, with which it falls."""

    moments: NDArray[np.int64]
    hits: NDArray[np.int64]
    diversity: NDArray[np.float64]

    @classmethod
    def of(cls, sights: Sequence[Sight]) -> History:
        moments, hits, users = np.array(sights, np.int64).reshape(-1, 3).T
        return cls(moments, hits, users / hits)

    def first_demotion(self, pair: Pair) -> int | None:
        """Requests admitted until the prefix is demoted; None: it never is."""
        suspect = (self.hits >= pair.min_hits) & (self.diversity < pair.threshold)
        return int(self.moments[suspect].min()) if suspect.any() else None

    def lowest(self, min_hits: int) -> float | None:
        """The lowest diversity that the monitor saw; None: it never had so many hits."""
        looked = self.diversity[self.hits >= min_hits]
        return float(looked.min()) if len(looked) else None


def prefixes(cache: Watched, least_hits: int) -> list[History]:
    """One history for each public node that had so many hits in some window."""
    found = []
    for node in walk(cache.root_node):
        if node.owner or max((s.hits for s in cache.seen[node.id]), default=0) < least_hits:
            continue
        found.append(history_of(cache, node))
    return found


def history_of(cache: Watched, node: Node) -> History:
    sights: list[Sight] = []
    above: Node | None = node
    while above is not None and above.parent is not None:
        sights += cache.seen[above.id]
        above = above.parent
    return History.of(sights)
