"""What is known to be harmless: who says so is exchangeable."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from sglang.srt.tenancy.cache.core.node import SCANNED_CLEAN, Node


class ScanResults(Protocol):
    """A source of scan results. Without one nothing is promoted: the failure is on the private
    side."""

    def harmless(self, path: Sequence[Node]) -> int:
        """Count how many of a path's first tokens are known to hold nothing sensitive."""


class NothingScanned:
    """Nothing is known: only what an operator registers becomes public."""

    def harmless(self, path: Sequence[Node]) -> int:
        return 0


class TrustAll:
    """Everything counts as harmless. For tests, benchmarks, and data nobody minds sharing."""

    def harmless(self, path: Sequence[Node]) -> int:
        return sum(len(node.key) for node in path)


class Scanned:
    """What a detector said of each node (``SharingPolicy.apply_scan_result``)."""

    def harmless(self, path: Sequence[Node]) -> int:
        known = 0
        for node in path:
            if not node.state & SCANNED_CLEAN:
                break
            known += len(node.key)
        return known


SOURCES: dict[str, type[ScanResults]] = {"none": NothingScanned, "off-trust-all": TrustAll}
