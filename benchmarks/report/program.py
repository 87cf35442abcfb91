"""What the programs have in common: options, and the end of a run."""

from __future__ import annotations

import time
from argparse import ArgumentParser
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from report.results import write

RESULTS = Path("benchmarks/results")
STARTED = time.monotonic()


def options_of(
    about: str | None, *, quick: str = "", strict: bool = False, model: str = ""
) -> ArgumentParser:
    """A parser that says the first line of ``about`` and knows ``--out``.

    ``quick``: what that option says, where there is one. ``model``: the folder of the model.
    """
    parser = ArgumentParser(description=(about or "").splitlines()[0])
    if quick:
        parser.add_argument("--quick", action="store_true", help=quick)
    if strict:
        parser.add_argument("--strict", action="store_true", help="fail where a target is missed")
    if model:
        parser.add_argument("--model", type=Path, default=Path(model))
    parser.add_argument("--out", type=Path, default=RESULTS)
    return parser


def leave(
    name: str, out: Path, results: Mapping[str, Any], draw: Callable[[Path], None] | None
) -> None:
    """Write ``name``.json, draw ``name``.png, and say so with the seconds since the start."""
    write(results, out / f"{name}.json")
    if draw is not None:
        draw(out / f"{name}.png")
    seconds = time.monotonic() - STARTED
    print(f"{seconds:.0f} s; written to {out}/{name}.json and .png")
