"""Waiting, with a deadline, for what other processes do."""

from __future__ import annotations

import time
from collections.abc import Callable

SECONDS = 60.0


def until(condition: Callable[[], object], what: str = "", seconds: float = SECONDS) -> None:
    """``what``: said of a condition that does not come true."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds:.0f} s: {what}"
        time.sleep(0.02)
