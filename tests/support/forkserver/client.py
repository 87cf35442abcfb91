"""Start a server's first process as a fork, instead of as a new interpreter."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO

from server_process import FirstProcess, start_interpreter

TESTS = Path(__file__).resolve().parents[2]

# Read when an interpreter begins or an engine is imported: no fork can change them any more.
_READ_EARLY = {"PYTHONHASHSEED"}
# A tiny model gains nothing from threads, and a fork takes none of them along.
_ONE_THREAD = {"OMP_NUM_THREADS": "1"}


class ForkedProcess:
    """A process of the fork server; as much of ``subprocess.Popen`` as a server needs."""

    stdout: IO[bytes] | None = None

    def __init__(self, pid: int, ended: socket.socket) -> None:
        """``ended``: gives the exit code once the process has ended."""
        self.pid = pid
        self._ended = ended
        self._code: int | None = None

    def poll(self) -> int | None:
        """Return the exit code, or None where the process still runs."""
        if self._code is None:
            with contextlib.suppress(BlockingIOError):
                self._read_code(socket.MSG_DONTWAIT)
        return self._code

    def wait(self) -> int:
        """Return the exit code, once there is one."""
        return self._read_code() if self._code is None else self._code

    def terminate(self) -> None:
        """Ask the process to end."""
        if self.poll() is None:
            os.kill(self.pid, signal.SIGTERM)

    def _read_code(self, flags: int = 0) -> int:
        answer = self._ended.recv(64, flags)
        self._ended.close()
        assert answer, f"who waits for process {self.pid} was killed"
        self._code = int(answer)
        return self._code


class ForkServer:
    """A process that has imported the engine; ``start`` as a server's starter.

    It is started by the first server, and it ends with ``close``.
    """

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._requests: socket.socket | None = None

    def start(
        self, command: Sequence[str], *, output: IO[bytes] | int | None, env: Mapping[str, str]
    ) -> FirstProcess:
        """Fork a process that does as ``python SCRIPT ARGUMENTS`` would.

        It leads a session of its own. Where a variable could not act on a fork, it is a new
        interpreter.
        """
        if _READ_EARLY & env.keys():
            return start_interpreter(command, output=output, env=env)
        interpreter, script, *arguments = command
        assert interpreter == sys.executable, command
        assert Path(script).is_file(), command
        assert output is not None
        log = output if isinstance(output, int) else output.fileno()
        request = {"script": script, "arguments": arguments, "env": {**os.environ, **env}}
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            fds = [log, theirs.fileno()]
            socket.send_fds(self._running(), [json.dumps(request).encode()], fds)
        answer = ours.recv(64)
        assert answer, "the fork server has ended; its output says why"
        return ForkedProcess(int(answer), ours)

    def _running(self) -> socket.socket:
        if self._requests is None:
            self._requests, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            path = os.pathsep.join(filter(None, [str(TESTS), os.environ.get("PYTHONPATH", "")]))
            with theirs:
                self._process = subprocess.Popen(
                    [sys.executable, "-m", __package__, str(theirs.fileno())],
                    pass_fds=[theirs.fileno()],
                    stdin=subprocess.DEVNULL,
                    env={**os.environ, **_ONE_THREAD, "PYTHONUNBUFFERED": "1", "PYTHONPATH": path},
                    start_new_session=True,
                )
        return self._requests

    def close(self) -> None:
        """End the process; what it has forked goes on."""
        if self._requests is not None and self._process is not None:
            self._requests.close()
            self._process.wait()
            self._requests = self._process = None


@contextlib.contextmanager
def running() -> Iterator[ForkServer]:
    """A fork server inside the with statement."""
    server = ForkServer()
    try:
        yield server
    finally:
        server.close()
