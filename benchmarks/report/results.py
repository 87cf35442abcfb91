"""Results as JSON files."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_NUMBERS = re.compile(r"\[[\s\d.,eE+\-nul]*\]")


def read(path: Path) -> dict[str, Any]:
    """Empty where there is no such file."""
    return dict(json.loads(path.read_text())) if path.exists() else {}


def write(results: Mapping[str, Any], path: Path) -> None:
    """Write the file, and its folder where there is none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(results, indent=1) + "\n")


def write_compact(results: Mapping[str, Any], path: Path) -> None:
    """Six digits to a number and one line to a row of numbers: for long curves, which can so be
    read and compared."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(_rounded(results), indent=1)
    path.write_text(_NUMBERS.sub(lambda row: " ".join(row[0].split()), text) + "\n")


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(each) for each in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value
