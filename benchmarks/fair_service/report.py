"""The file of results: rows of numbers on one line each, so that it can be read and compared."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

_NUMBERS = re.compile(r"\[[\s\d.,eE+\-nul]*\]")


def read(path: Path) -> dict[str, Any]:
    """Empty where there is no such file."""
    return dict(json.loads(path.read_text())) if path.exists() else {}


def write(report: dict[str, Any], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(_rounded(report), indent=1)
    path.write_text(_NUMBERS.sub(lambda row: " ".join(row[0].split()), text) + "\n")


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(each) for each in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value
