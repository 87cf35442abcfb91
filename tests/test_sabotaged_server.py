"""A server whose isolation is broken from within must not start, and must leave nothing."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from server_process import free_port

pytestmark = pytest.mark.server

# A plugin, as upstream loads them: with it the scheduler forgets whom a prefix belongs to.
PLUGIN = """
def forget_owners():
    from sglang.srt.tenancy import ownership

    ownership.namespace = lambda owner, extra_key: extra_key
"""


@pytest.fixture
def plugins(tmp_path: Path) -> Path:
    """A folder that, on PYTHONPATH, is an installed plugin."""
    (tmp_path / "saboteur.py").write_text(PLUGIN)
    info = tmp_path / "saboteur-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: saboteur\nVersion: 1\n")
    (info / "entry_points.txt").write_text(
        "[sglang.srt.plugins]\nsaboteur = saboteur:forget_owners\n"
    )
    return tmp_path


def processes_of(session: int) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        try:
            if os.getsid(process.pid) == session and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (ProcessLookupError, psutil.NoSuchProcess):
            continue
    return found


@pytest.mark.parametrize("workers", [1, 2])
def test_it_does_not_start(tiny_model: Path, plugins: Path, tmp_path: Path, workers: int) -> None:
    command = [sys.executable, "-m", "sglang.launch_server", "--model-path", str(tiny_model)]
    command += ["--enable-tenant-cache", "--tenant-mode", "isolated"]
    command += ["--tokenizer-worker-num", str(workers), "--port", str(free_port())]
    path = os.pathsep.join(filter(None, [str(plugins), os.environ.get("PYTHONPATH")]))
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
        wait_until_none_is_left(server.pid)
    finally:
        for process in processes_of(server.pid):
            process.kill()
    said = "a second user was served 63 cached tokens of the first user's prompt"
    assert f"Tenant self-test failed, the server stops: /generate: {said}" in log.read_text()


def wait_until_none_is_left(session: int) -> None:
    deadline = time.monotonic() + 60
    while left := processes_of(session):
        assert time.monotonic() < deadline, f"still there: {left}"
        time.sleep(0.1)
