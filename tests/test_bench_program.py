"""Whoever ends a benchmark ends its servers with it."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from report.program import INTERRUPTED
from support.patience import until

ROOT = Path(__file__).parent.parent


@pytest.mark.server
def test_no_server_outlives_its_benchmark(tmp_path: Path) -> None:
    command = [sys.executable, "benchmarks/sharing.py", "--quick", "--workloads", "private chat"]
    command += ["--out", str(tmp_path), "--model", str(tmp_path / "model")]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as program:
        started = psutil.Process(program.pid).children
        until(lambda: any("serve" in each.cmdline() for each in started()), "a server starts")
        servers = started(recursive=True)
        program.send_signal(signal.SIGTERM)
        _, errors = program.communicate(timeout=60)
    assert program.returncode == INTERRUPTED
    assert "Traceback" not in errors
    assert psutil.wait_procs(servers, timeout=10)[1] == []
