"""Measurements that are done one by one, and kept as each ends: a GPU is often lent for minutes."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from report.results import read, write_compact

CAPACITY, SHARING, ATTACK, FAIRNESS, EVICTION = (
    *("capacity", "sharing", "attack", "fairness", "eviction"),
)
PARTS = (SHARING, ATTACK, FAIRNESS, EVICTION)


@dataclass(frozen=True)
class Cell:
    """``mode``: of the server, a way to tell users apart, or a policy."""

    part: str
    model: str
    mode: str
    seed: int

    @property
    def name(self) -> str:
        return ", ".join(filter(None, (self.part, self.model, self.mode, f"seed {self.seed}")))


def in_turns(modes: Sequence[str], seeds: int) -> list[tuple[str, int]]:
    """Each mode once for each seed, forth and back: what drifts hits all of them, and the last
    server of a seed is the first of the next."""
    return [
        (mode, seed)
        for seed in range(1, seeds + 1)
        for mode in (modes if seed % 2 else tuple(reversed(modes)))
    ]


class Store:
    """A file for each cell. ``settings``: what one must have been measured with to be of use."""

    def __init__(self, folder: Path, settings: Callable[[Cell], Any]) -> None:
        self.folder = folder
        self._settings = settings

    def figures(self, cell: Cell) -> dict[str, Any] | None:
        """None where it was not measured, or otherwise, or failed."""
        entry = self._entry(cell)
        return dict(entry["figures"]) if entry and not entry["error"] else None

    def error(self, cell: Cell) -> str:
        """Why it failed; nothing where it did not."""
        entry = self._entry(cell)
        return str(entry["error"]) if entry else ""

    def seconds(self, cell: Cell) -> float:
        """What it took; 0 where that is not known."""
        entry = self._entry(cell)
        return float(entry["seconds"]) if entry else 0.0

    def keep(
        self, cell: Cell, seconds: float, figures: dict[str, Any] | None, error: str = ""
    ) -> None:
        """Write it."""
        entry = {
            **vars(cell),
            "settings": self._hash(cell),
            "seconds": round(seconds, 1),
            "error": error,
            "figures": figures or {},
        }
        write_compact(entry, self._path(cell))

    def _entry(self, cell: Cell) -> dict[str, Any] | None:
        entry = read(self._path(cell))
        return entry if entry.get("settings") == self._hash(cell) else None

    def _hash(self, cell: Cell) -> str:
        text = json.dumps(self._settings(cell), sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def _path(self, cell: Cell) -> Path:
        return self.folder / f"{slug(cell.name)}.json"


def slug(text: str) -> str:
    """A name for a file or folder."""
    return re.sub(r"[^a-z0-9.]+", "-", text.lower()).strip("-")
