"""A new configuration for a server that runs."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from support.patience import until
from support.server import Server


def reload(
    server: Server, config_file: Path, config: str, said: str = "Tenant config reloaded"
) -> None:
    """Exchange the file, ask for a reload, and return when every process has ``said`` so."""
    config_file.write_text(config)
    answered = server.log.count(said) + server.workers
    os.kill(server.running.popen.pid, signal.SIGHUP)
    until(lambda: server.log.count(said) >= answered, f"in the log: {said}")
