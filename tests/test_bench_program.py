"""Whoever ends a benchmark ends its servers with it."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import psutil
import pytest
import server_process
from report.program import INTERRUPTED
from server_process import ServerProcess
from serving.together import together
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


def _sleep(
    command: Sequence[str], *, output: IO[bytes] | int | None, env: Mapping[str, str]
) -> subprocess.Popen[bytes]:
    return server_process.start_interpreter(["sleep", "3600"], output=output, env=env)


class NeverReady(ServerProcess):
    """A process that listens nowhere, and does not end by itself."""

    start = staticmethod(_sleep)


@contextmanager
def failing() -> Iterator[ServerProcess]:
    until(lambda: ServerProcess.starting, "the other one is starting")
    raise LookupError("it cannot start")
    yield


@pytest.mark.parametrize("first", [True, False], ids=["the first", "the second"])
def test_where_one_fails_the_others_are_not_waited_for(first: bool) -> None:
    @contextmanager
    def waiting() -> Iterator[ServerProcess]:
        with server_process.running([], seconds=3600, kind=NeverReady) as (process, _):
            yield process

    servers = [failing(), waiting()] if first else [waiting(), failing()]
    with pytest.raises(LookupError), together(servers):
        pass
    assert ServerProcess.starting == set()
