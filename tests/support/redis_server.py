"""A real Redis on a free port, that can be killed, stopped and started again."""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import redis
from server_process import free_port

from support.patience import until


class RedisServer:
    """``settings``: of its configuration, as ``("maxmemory", "2mb")``. It writes no file."""

    def __init__(self, program: Path, folder: Path, *settings: tuple[str, str]):
        self.port = free_port()
        given = [
            ("bind", "127.0.0.1"),
            ("port", str(self.port)),
            ("save", ""),
            ("dir", str(folder)),
        ]
        options = [word for name, value in (*given, *settings) for word in (f"--{name}", value)]
        self._command = [str(program), *options]
        self._log = folder / "log"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def client(self) -> redis.Redis:
        return redis.Redis(port=self.port)

    def start(self) -> None:
        with self._log.open("ab") as output:
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
            )
        until(self._answers, f"Redis is there: {self._log.read_text()}")

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    @contextlib.contextmanager
    def held_still(self) -> Iterator[None]:
        """Let it take connections and answer nothing, inside the with statement."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self._log.read_text()
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", self.port), 1).close()
            return True
        return False


@contextlib.contextmanager
def running(program: Path, folder: Path, *settings: tuple[str, str]) -> Iterator[RedisServer]:
    """Start one; it is gone after the with statement."""
    server = RedisServer(program, folder, *settings)
    server.start()
    try:
        yield server
    finally:
        server.kill()
