"""A real server for a test: `with Server(model, "--flag", "value") as server:`."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import httpx
import openai
import psutil

# Later flags win, so that a test may override these.
BASE_FLAGS = ("--host", "127.0.0.1", "--skip-server-warmup")

STOP_SECONDS = 15.0
LOG_TAIL_LINES = 60


class ServerFailed(RuntimeError):
    """The server did not come up; the message ends with the end of its log."""


class Server:
    """A server of this package on a free port of the loopback interface.

    All its processes share one session, by which they are found, counted and
    stopped; also those whose parent has gone.
    """

    def __init__(
        self,
        model: Path | str,
        *flags: str,
        env: Mapping[str, str] | None = None,
        start_seconds: float = 240.0,
    ) -> None:
        self.port = _free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.http = httpx.Client(base_url=self.url, timeout=120.0)
        self._start_seconds = start_seconds
        self._folder = tempfile.TemporaryDirectory(prefix="server-")
        self._log = Path(self._folder.name) / "log"
        self._command = [sys.executable, "-m", "sglang.launch_server", *BASE_FLAGS]
        self._command += ["--port", str(self.port), "--model-path", str(model), *flags]
        # SGLang leaves its socket files behind: they go with the folder.
        self._env = {**os.environ, "TMPDIR": self._folder.name, **(env or {})}
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Server:
        """Start the server and return when it answers."""
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                self._command,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self._env,
                start_new_session=True,
            )
        try:
            self._wait_until_healthy(self._process)
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop the server; add the end of its log to an error."""
        if error is not None:
            error.add_note(self._log_tail()) if hasattr(error, "add_note") else None
        self.stop()

    def openai(self, api_key: str = "none") -> openai.OpenAI:
        """Return a client of the OpenAI API that does not retry."""
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key=api_key, max_retries=0, timeout=120.0)

    def generate(
        self,
        text: str | None = None,
        *,
        input_ids: list[int] | None = None,
        max_new_tokens: int = 16,
        headers: Mapping[str, str] | None = None,
        **fields: Any,
    ) -> dict[str, Any]:
        """Post to `/generate`, greedy, and return the answer.

        `fields` go into the body (`user_id=...`). Raises httpx.HTTPStatusError.
        """
        sampling = {"temperature": 0.0, "max_new_tokens": max_new_tokens, "ignore_eos": True}
        prompt = {"text": text} if input_ids is None else {"input_ids": input_ids}
        body = {**prompt, "sampling_params": sampling, **fields}
        answer = self.http.post("/generate", json=body, headers=dict(headers or {}))
        answer.raise_for_status()
        return dict(answer.json())

    @property
    def log(self) -> str:
        """Everything the server has printed."""
        return self._log.read_text(errors="replace")

    @property
    def pid(self) -> int:
        """The process that was started, leader of the session."""
        assert self._process is not None, "the server is not started: use it in a with statement"
        return self._process.pid

    def processes(self) -> list[psutil.Process]:
        """Return all living processes of the server."""
        return [process for process in psutil.process_iter() if self._owns(process)]

    def _owns(self, process: psutil.Process) -> bool:
        try:
            return os.getsid(process.pid) == self.pid and process.status() != psutil.STATUS_ZOMBIE
        except (ProcessLookupError, psutil.NoSuchProcess):
            return False

    def rss(self) -> int:
        """Return the resident bytes of all processes together."""
        return sum(process.memory_info().rss for process in self.processes())

    def stop(self) -> None:
        """End all processes: ask the first, then kill what is left.

        Raises ServerFailed where a process outlives being killed.
        """
        self.http.close()
        if self._process is None:
            return
        self._process.terminate()
        self._wait_for_end(STOP_SECONDS)
        for process in self.processes():
            process.send_signal(signal.SIGKILL)
        self._wait_for_end(STOP_SECONDS)
        if left := self.processes():
            raise ServerFailed(f"processes outlived SIGKILL: {left}")
        self._process.wait()
        self._process = None
        self._folder.cleanup()

    def _wait_for_end(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while self.processes() and time.monotonic() < deadline:
            time.sleep(0.05)

    def _wait_until_healthy(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + self._start_seconds
        while not self._is_healthy():
            if process.poll() is not None:
                raise ServerFailed(f"the server ended with code {process.returncode}\n{self._log_tail()}")
            if time.monotonic() > deadline:
                raise ServerFailed(f"the server was not up in {self._start_seconds:.0f} s\n{self._log_tail()}")
            time.sleep(0.1)

    def _is_healthy(self) -> bool:
        try:
            return self.http.get("/health").status_code == httpx.codes.OK
        except httpx.TransportError:
            return False

    def _log_tail(self) -> str:
        tail = "\n".join(self.log.splitlines()[-LOG_TAIL_LINES:])
        return f"--- end of the server's log ---\n{tail}"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
