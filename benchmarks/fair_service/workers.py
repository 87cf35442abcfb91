"""Work that no clock looks at, in as many processes as there are cores."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor
from multiprocessing import get_context
from types import TracebackType
from typing import ParamSpec, TypeVar

MOST = 8  # a worker with its engine takes more than a gigabyte

P = ParamSpec("P")
T = TypeVar("T")


class Workers:
    """To be used in a ``with`` statement. ``progress`` is told what has ended."""

    def __init__(self, progress: Callable[[str], object]) -> None:
        self._progress = progress
        # Not forked: torch's threads would be missing in a copy.
        self._pool = ProcessPoolExecutor(
            min(os.cpu_count() or 1, MOST), mp_context=get_context("spawn")
        )

    def __enter__(self) -> Workers:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._pool.shutdown(cancel_futures=True)

    def start(
        self, what: str, function: Callable[P, T], *args: P.args, **named: P.kwargs
    ) -> Future[T]:
        future = self._pool.submit(function, *args, **named)
        future.add_done_callback(lambda _: self._progress(what))
        return future
