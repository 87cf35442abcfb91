"""Have uvicorn's supervisor hand SIGHUP on to its workers, which read the config file again."""

from __future__ import annotations

import os
import signal
from typing import Any

from uvicorn.supervisors.multiprocess import Multiprocess


def forward_hangup() -> None:
    """Make uvicorn's supervisor forward SIGHUP; it would restart the workers, mid-request."""

    def handle_hup(self: Multiprocess) -> None:
        for worker in self.processes:
            if worker.pid is not None:
                os.kill(worker.pid, signal.SIGHUP)

    supervisor: Any = Multiprocess
    supervisor.handle_hup = handle_hup
