"""Send cases to a server as one user; see whether another one, and the server, are as before."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import demo_model
import httpx
import server_process
from endpoints import Case

ALICE, MALLORY, ADMIN = "sk-alice", "sk-mallory", "sk-admin"
CONFIG = f"""
[users.alice]
keys = ["{ALICE}"]
[users.mallory]
keys = ["{MALLORY}"]
"""
START_SECONDS = 300.0
SECONDS = 30.0  # for the answer to a case, and to the other user
AT_ONCE = 8
# What an answer to a user must not tell of the server.
_INSIDE = ('File "', "site-packages", "Traceback (most")


class Target:
    """A server under attack."""

    def __init__(self, server: server_process.ServerProcess):
        self.server = server
        self.pids = {process.pid for process in server.processes()}
        self._mallory = httpx.Client(base_url=server.url, timeout=SECONDS, headers=_key(MALLORY))
        self._alice = httpx.Client(base_url=server.url, timeout=SECONDS, headers=_key(ALICE))
        self._expected = self._ask()

    def fault_of(self, cases: Sequence[Case]) -> str | None:
        """Send the cases; say what was wrong with an answer, or with the server afterwards."""
        with ThreadPoolExecutor(AT_ONCE) as pool:
            faults = [fault for fault in pool.map(self._send, cases) if fault]
        return faults[0] if faults else self.harm()

    def harm(self) -> str | None:
        """Say what the other user suffers, if anything."""
        try:
            answer = self._ask()
        except (httpx.HTTPError, ValueError) as error:
            return f"the other user has no answer: {type(error).__name__}"
        if answer != self._expected:
            return "the other user's answer is another one"
        if not self.pids <= {process.pid for process in self.server.processes()}:
            return "a process of the server has ended"
        return None

    def _ask(self) -> Any:
        body = {"text": "The quick brown fox", "sampling_params": {"temperature": 0}}
        response = self._alice.post("/generate", json=body)
        response.raise_for_status()
        return response.json()["text"]

    def _send(self, case: Case) -> str | None:
        try:
            response = self._post(case)
        except httpx.TimeoutException:
            return None  # a long answer; whether others have theirs is looked at
        except httpx.HTTPError as error:
            return f"no answer: {error!r}"
        if response.status_code == 500:
            return f"500: {response.text[:200]}"
        told = next((inside for inside in _INSIDE if inside in response.text), None)
        if told and response.status_code >= 400:
            return f"the answer tells of the server: {told}"
        return None

    def _post(self, case: Case) -> httpx.Response:
        content = json.dumps(case.body).encode()
        headers = {"Content-Type": "application/json"}
        try:
            return self._mallory.post(case.path, content=content, headers=headers)
        except httpx.RemoteProtocolError:  # an idle connection, just closed
            return self._mallory.post(case.path, content=content, headers=headers)


@contextlib.contextmanager
def target(folder: Path) -> Iterator[Target]:
    """A server that has just started, with a demo model and two users in ``folder``."""
    model, config = folder / "model", folder / "tenants.toml"
    demo_model.make_model(model)
    config.write_text(CONFIG)
    flags = ["--model-path", str(model), "--served-model-name", "demo", "--max-total-tokens"]
    flags += ["65536", "--enable-tenant-cache", "--enable-hierarchical-cache", "--enable-metrics"]
    flags += ["--tenant-config", str(config), "--admin-api-key", ADMIN]
    env = {"OMP_NUM_THREADS": "1"}
    with server_process.running(flags, env, seconds=START_SECONDS) as (server, _):
        yield Target(server)


def _key(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}
