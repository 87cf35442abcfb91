"""A server whose isolation is broken from within must not start, and must leave nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from server_process import free_port
from support import plugin
from support.patience import until

pytestmark = pytest.mark.server

# What the scheduler is made to do: forget whom a prefix belongs to, or share it at once.
SABOTAGES = {
    "isolated": """
def sabotage():
    from sglang.srt.tenancy import namespace as ownership

    ownership.Namespace = lambda owner, extra_key: extra_key
""",
    "selective": """
def sabotage():
    from sglang.srt.tenancy.cache.core.promotion import Promoter

    Promoter.promotable = lambda self, key, path, start, end: end
""",
}


def processes_of(session: int) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        try:
            if os.getsid(process.pid) == session and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (ProcessLookupError, psutil.NoSuchProcess):
            continue
    return found


@pytest.mark.parametrize(("mode", "workers"), [("isolated", 1), ("selective", 2)])
def test_it_does_not_start(tiny_model: Path, tmp_path: Path, mode: str, workers: int) -> None:
    (tmp_path / "saboteur.py").write_text(SABOTAGES[mode])
    command = [sys.executable, "-m", "sglang.launch_server", "--model-path", str(tiny_model)]
    command += ["--enable-tenant-cache", "--tenant-mode", mode]
    command += ["--tokenizer-worker-num", str(workers), "--port", str(free_port())]
    path = plugin.install(tmp_path, "saboteur:sabotage")
    log = tmp_path / "log"
    with log.open("w") as output:
        server = subprocess.Popen(
            command,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONPATH": path, "TMPDIR": str(tmp_path)},
            start_new_session=True,
        )
    try:
        assert server.wait(timeout=240) != 0
        until(lambda: not processes_of(server.pid), "all its processes have ended")
    finally:
        for process in processes_of(server.pid):
            process.kill()
    said = "a second user was served 63 cached tokens of the first user's prompt"
    assert f"Tenant self-test failed, the server stops: /generate: {said}" in log.read_text()
