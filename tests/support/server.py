"""A real server for a test: `with Server(model, "--flag", "value") as server:`."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import httpx
import openai
import psutil
from server_process import ServerProcess

REQUEST_SECONDS = 120.0
LOG_TAIL_LINES = 60


class ServerFailed(RuntimeError):
    """The server did not come up; the message ends with the end of its log."""


class Server:
    """A server of this package on a free port of the loopback interface."""

    def __init__(
        self,
        model: Path | str,
        *flags: str,
        env: Mapping[str, str] | None = None,
        start_seconds: float = 240.0,
    ) -> None:
        self._flags = ["--model-path", str(model), *flags]
        self._env = dict(env or {})
        self._start_seconds = start_seconds
        self._exit = contextlib.ExitStack()
        self._log = Path()
        self._process: ServerProcess | None = None
        self._http: httpx.Client | None = None

    def __enter__(self) -> Server:
        """Start the server and return when it answers.

        Raises ServerFailed where it ends or takes too long.
        """
        with contextlib.ExitStack() as starting:
            folder = starting.enter_context(tempfile.TemporaryDirectory(prefix="server-"))
            self._log = Path(folder) / "log"
            # SGLang leaves its socket files behind: they go with the folder.
            # A tiny model gains nothing from threads, and loses much where cores are shared.
            env = {"TMPDIR": folder, "OMP_NUM_THREADS": "1", **self._env}
            with self._log.open("wb") as log:
                process = ServerProcess(self._flags, output=log.fileno(), env=env)
            # Its own way of ending takes seconds.
            starting.callback(process.kill)
            self._wait(process)
            self._process = process
            self._http = starting.enter_context(
                httpx.Client(base_url=process.url, timeout=REQUEST_SECONDS)
            )
            self._exit = starting.pop_all()
        return self

    def _wait(self, process: ServerProcess) -> None:
        try:
            process.wait_until_ready(self._start_seconds)
        except (RuntimeError, TimeoutError) as problem:
            raise ServerFailed(f"{problem}\n{self._log_tail()}") from problem

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop every process; show the end of the log where the test failed."""
        if error is not None:
            print(self._log_tail())
        self._exit.close()

    @property
    def running(self) -> ServerProcess:
        """The server's processes and where it listens."""
        assert self._process is not None, "the server runs only inside its with statement"
        return self._process

    @property
    def workers(self) -> int:
        """Processes that speak HTTP."""
        flag = "--tokenizer-worker-num"
        return int(self._flags[self._flags.index(flag) + 1]) if flag in self._flags else 1

    @property
    def http(self) -> httpx.Client:
        """A client of the server: `server.http.get("/health")`."""
        assert self._http is not None, "the server runs only inside its with statement"
        return self._http

    @property
    def url(self) -> str:
        """Where the server listens, without a slash at the end."""
        return self.running.url

    @property
    def log(self) -> str:
        """Everything the server has printed so far."""
        return self._log.read_text(errors="replace")

    def openai(self, api_key: str = "none") -> openai.OpenAI:
        """Return a client of the OpenAI API that does not retry."""
        return openai.OpenAI(
            base_url=f"{self.url}/v1",
            api_key=api_key,
            max_retries=0,
            timeout=REQUEST_SECONDS,
        )

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
        sampling = {
            "temperature": 0,
            "max_new_tokens": max_new_tokens,
            "ignore_eos": True,
        }
        prompt = {"text": text} if input_ids is None else {"input_ids": input_ids}
        body = {"sampling_params": sampling, **prompt, **fields}
        answer = self.http.post("/generate", json=body, headers=dict(headers or {}))
        answer.raise_for_status()
        return dict(answer.json())

    def processes(self) -> list[psutil.Process]:
        """Return all living processes of the server."""
        return self.running.processes()

    def rss(self) -> int:
        """Return the resident bytes of all processes together."""
        return sum(process.memory_info().rss for process in self.processes())

    def _log_tail(self) -> str:
        tail = "\n".join(self.log.splitlines()[-LOG_TAIL_LINES:])
        return f"--- end of the server's log ---\n{tail}"
