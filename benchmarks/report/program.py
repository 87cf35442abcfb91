"""What the programs have in common: options, how they end, and what they leave."""

from __future__ import annotations

import os
import signal
import time
from argparse import ArgumentParser
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn

from report.results import write

RESULTS = Path("benchmarks/results")
STARTED = time.monotonic()
INTERRUPTED = 130  # exit code, as of a program that Ctrl-C has ended


def run(main: Callable[[], int | None]) -> NoReturn:
    """Run a program and exit with its code. SIGTERM ends it as Ctrl-C does: its servers end too."""
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, _interrupt)
    # A pool ends its processes by SIGTERM, and they have nothing to end.
    os.register_at_fork(after_in_child=lambda: signal.signal(signal.SIGTERM, signal.SIG_DFL))
    try:
        raise SystemExit(main())
    except KeyboardInterrupt:
        raise SystemExit(INTERRUPTED) from None


def _interrupt(number: int, _frame: object) -> None:
    signal.signal(number, signal.SIG_IGN)  # once: the servers' ends are not to be interrupted
    raise KeyboardInterrupt


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
