"""A store that cannot be reached or used: said once, counted, and left alone for a while."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

logger = logging.getLogger(__name__)

_QUIET = 60.0  # seconds between two lines, where some of what is tried goes well


class Outage:
    """Tells when a store, or one side of it, may be tried. For several threads.

    ``what``: is said of it. ``pause``: seconds after a failure in which nobody tries.
    """

    def __init__(self, what: str, pause: float, clock: Callable[[], float] = time.monotonic):
        self.failures = 0
        self._what = what
        self._pause = pause
        self._clock = clock
        self._down = False
        self._until = 0.0
        self._said = False
        self._quiet_until = 0.0
        self._lock = threading.Lock()

    def may_try(self) -> bool:
        """Tell whether to use the store now. After a pause one caller may, and the others once
        that went well."""
        with self._lock:
            if not self._down:
                return True
            if self._clock() < self._until:
                return False
            self._until = self._clock() + self._pause
            return True

    def failed(self, error: BaseException | str) -> None:
        """Count a failure; log the first one since it last went well."""
        with self._lock:
            now = self._clock()
            first = not self._down and now >= self._quiet_until
            self._down = True
            self.failures += 1
            self._until = now + self._pause
            if first:
                self._said, self._quiet_until = True, now + _QUIET
        if first:
            logger.warning("%s (%s); going on without it", self._what, error)

    def went_well(self) -> None:
        """Say, where it had failed, that it is back."""
        if self._down:
            with self._lock:
                self._down = False
                said, self._said = self._said, False
            if said:
                logger.info("%s: no more", self._what)


class OwedClears:
    """Remembers owners that could not be cleared while a store was away; what it holds of them may
    not be shown until they are. More than ``MOST``: all are."""

    MOST = 1000

    def __init__(self) -> None:
        self._owners: set[str] = set()
        self._all = False

    def __bool__(self) -> bool:
        return self._all or bool(self._owners)

    def add(self, owner: str | None) -> None:
        """``owner``: None for all."""
        if owner is not None and len(self._owners) < self.MOST:
            self._owners.add(owner)
        else:
            self._all = True

    def cover(self, owner: str) -> bool:
        return self._all or owner in self._owners

    def owners(self) -> list[str | None]:
        """Return whom to clear, None for all."""
        return [None] if self._all else list(self._owners)

    def done(self, owner: str | None) -> None:
        """``owner``: was cleared; None: all were."""
        if owner is None:
            self._all = False
            self._owners.clear()
        else:
            self._owners.discard(owner)
