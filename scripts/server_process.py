"""Start an SGLang server, wait for it, and leave no process of it behind."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, ClassVar, Protocol

import httpx
import psutil

# Below the ports that systems hand out by themselves.
_PORTS = range(15_000, 32_000)

STOP_SECONDS = 15.0
# The entry point that upstream recommends; `python -m sglang.launch_server` says so each time.
SGLANG = Path(sys.executable).with_name("sglang")
LOG_TAIL_LINES = 60


class ServerEnded(RuntimeError):
    """The server ended before it was ready; `code` is its exit code."""

    def __init__(self, code: int) -> None:
        super().__init__(f"the server ended with code {code} before it was ready")
        self.code = code


class FirstProcess(Protocol):
    """The process that starts the server's others; as ``subprocess.Popen`` has it."""

    pid: int
    stdout: IO[bytes] | None

    def poll(self) -> int | None:
        """Return the exit code, or None where the process still runs."""

    def wait(self) -> int:
        """Return the exit code, once there is one."""

    def terminate(self) -> None:
        """Ask the process to end."""


class Starter(Protocol):
    """Starts a server's first process, at the head of a session."""

    def __call__(
        self, command: Sequence[str], *, output: IO[bytes] | int | None, env: Mapping[str, str]
    ) -> FirstProcess:
        """Start the command with these variables besides the environment's own."""


def start_interpreter(
    command: Sequence[str], *, output: IO[bytes] | int | None, env: Mapping[str, str]
) -> subprocess.Popen[bytes]:
    """Start the command as it is."""
    return subprocess.Popen(
        command,
        stdout=output,
        stderr=subprocess.STDOUT,
        env={**os.environ, **env},
        start_new_session=True,
    )


class ServerProcess:
    """A server in a session of its own.

    By the session all its processes are found, also those whose parent has
    gone; and Ctrl-C in a terminal reaches the starter alone, who can then end
    them in order.
    """

    # Tests set one that does not import the engine again.
    start: ClassVar[Starter] = staticmethod(start_interpreter)
    # Those that somebody waits for, until they are ready.
    starting: ClassVar[set[ServerProcess]] = set()

    def __init__(
        self,
        flags: Sequence[str],
        *,
        host: str = "127.0.0.1",
        port: int | None = None,
        output: IO[bytes] | int | None = None,
        env: Mapping[str, str] | None = None,
    ) -> None:
        """Start the server. Later `flags` win; `output` takes stdout and stderr."""
        self.port = free_port() if port is None else port
        # A server that listens everywhere is asked on the loopback.
        local = "127.0.0.1" if host in ("0.0.0.0", "::", "") else host
        self.url = f"http://{local}:{self.port}"
        command = [sys.executable, str(SGLANG), "serve", "--model-type", "llm"]
        command += ["--host", host, "--port", str(self.port), *flags]
        variables = {"PYTHONUNBUFFERED": "1", **(env or {})}
        self.popen = self.start(command, output=output, env=variables)

    def wait_until_ready(self, seconds: float) -> None:
        """Return when `/health` answers 200.

        Raises ServerEnded where the server ends instead, and TimeoutError.
        """
        self.starting.add(self)
        try:
            self._wait_for_health(seconds)
        finally:
            self.starting.discard(self)

    def _wait_for_health(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        with httpx.Client(base_url=self.url, timeout=30.0) as http:
            while not _is_healthy(http):
                if (code := self.popen.poll()) is not None:
                    raise ServerEnded(code)
                if time.monotonic() > deadline:
                    raise TimeoutError(f"the server was not ready in {seconds:.0f} s")
                time.sleep(0.1)

    def processes(self) -> list[psutil.Process]:
        """Return all living processes of the server."""
        return [process for process in psutil.process_iter() if self._owns(process)]

    def processor_seconds(self) -> float:
        """Return what all living processes have computed so far."""
        return sum(map(_processor_seconds, self.processes()))

    def _owns(self, process: psutil.Process) -> bool:
        try:
            return (
                os.getsid(process.pid) == self.popen.pid
                and process.status() != psutil.STATUS_ZOMBIE
            )
        except (ProcessLookupError, psutil.NoSuchProcess):
            return False

    def stop(self) -> None:
        """End all processes: ask the first, then kill what is left. Raises as ``kill`` does."""
        self.popen.terminate()
        self._wait_for_end()
        self.kill()

    def kill(self) -> None:
        """End all processes at once: what they were doing is lost.

        Raises RuntimeError where a process outlives that.
        """
        for process in self.processes():
            if not _cleans_up(process):
                _kill(process)
        self._wait_for_end()
        if left := self.processes():
            raise RuntimeError(f"processes of the server outlived SIGKILL: {left}")
        self.popen.wait()

    def _wait_for_end(self) -> None:
        deadline = time.monotonic() + STOP_SECONDS
        while self.processes() and time.monotonic() < deadline:
            self.popen.poll()
            time.sleep(0.05)


class ServerFailed(RuntimeError):
    """The server did not come up; the message ends with the end of its log."""


@contextlib.contextmanager
def running(
    flags: Sequence[str],
    env: Mapping[str, str] | None = None,
    *,
    seconds: float = 240.0,
    kind: type[ServerProcess] = ServerProcess,
) -> Iterator[tuple[ServerProcess, Path]]:
    """A server that answers, and its log, inside the with statement.

    The log and SGLang's socket files, which it leaves behind, go with a folder of their own.
    Raises ServerFailed where the server ends instead, or takes longer than ``seconds``.
    """
    with tempfile.TemporaryDirectory(prefix="server-") as folder:
        log = Path(folder) / "log"
        with log.open("wb") as output:
            process = kind(flags, output=output.fileno(), env={"TMPDIR": folder, **(env or {})})
        try:
            try:
                process.wait_until_ready(seconds)
            except (RuntimeError, TimeoutError) as problem:
                raise ServerFailed(f"{problem}\n{log_tail(log)}") from problem
            yield process, log
        finally:
            process.kill()  # its own way of ending takes seconds


def log_tail(log: Path) -> str:
    tail = "\n".join(log.read_text(errors="replace").splitlines()[-LOG_TAIL_LINES:])
    return f"--- end of the server's log ---\n{tail}"


def free_port() -> int:
    """Return a port of the loopback interface that nobody uses.

    Not one that the system hands out: until the server binds it, which takes seconds, any
    connection of any process could be given it.
    """
    for port in random.SystemRandom().sample(_PORTS, len(_PORTS)):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise OSError(f"no free port from {_PORTS.start} to {_PORTS.stop - 1}")


def _is_healthy(http: httpx.Client) -> bool:
    try:
        return http.get("/health").status_code == httpx.codes.OK
    except httpx.TransportError:
        return False


def _cleans_up(process: psutil.Process) -> bool:
    """Whether it removes the shared memory of the others once they have ended, and ends then."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return any("multiprocessing.resource_tracker" in text for text in process.cmdline())
    return False


def _processor_seconds(process: psutil.Process) -> float:
    with contextlib.suppress(psutil.NoSuchProcess):
        times = process.cpu_times()
        return float(times.user + times.system)
    return 0.0


def _kill(process: psutil.Process) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):
        process.send_signal(signal.SIGKILL)
