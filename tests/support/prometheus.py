"""A real Prometheus with the configuration of examples/monitoring, on a free port."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import yaml
from server_process import free_port

from support.monitoring import FOLDER, read_yaml
from support.patience import until

STOP_SECONDS = 15.0


class Prometheus:
    """Asks a running Prometheus through its API. Raises httpx.HTTPStatusError."""

    def __init__(self, http: httpx.Client):
        self._http = http

    def get(self, path: str, **parameters: str | float) -> Any:
        response = self._http.get(f"/api/v1/{path}", params=parameters)
        assert response.status_code == 200, response.text
        return response.json()["data"]

    def now(self, expr: str) -> list[dict[str, Any]]:
        """Return the series that there are now."""
        return list(self.get("query", query=expr)["result"])

    def over(self, expr: str, start: float, end: float) -> list[dict[str, Any]]:
        """Return the series between two times, a value a second."""
        data = self.get("query_range", query=expr, start=start, end=end, step=1)
        return list(data["result"])

    def values_of(self, label: str, metric: str) -> list[str]:
        return list(self.get(f"label/{label}/values", **{"match[]": metric}))

    def targets(self) -> dict[str, dict[str, Any]]:
        """What is scraped, by job."""
        active = self.get("targets", state="active")["activeTargets"]
        return {target["labels"]["job"]: target for target in active}

    def rules(self) -> list[dict[str, Any]]:
        return [rule for group in self.get("rules")["groups"] for rule in group["rules"]]


@contextlib.contextmanager
def running(program: Path, folder: Path, target: str, admin_key: str) -> Iterator[Prometheus]:
    """One that scrapes a server each second, inside the with statement.

    ``folder``: empty. ``target``: the server's host and port.
    """
    _configure(folder, target, admin_key)
    port = free_port()
    command: list[str | Path] = [
        *(program, f"--config.file={folder / 'prometheus.yml'}"),
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    log = folder / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
        )
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30.0) as http:
            until(lambda: process.poll() is not None or _is_ready(http), "Prometheus is ready")
            assert process.poll() is None, log.read_text()
            yield Prometheus(http)
    finally:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _configure(folder: Path, target: str, admin_key: str) -> None:
    """The example's files, in a hurry and for this server."""
    config = read_yaml(FOLDER / "prometheus.yml")
    config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    rules = read_yaml(FOLDER / "alerts.yml")
    for group in rules["groups"]:
        group.pop("interval", None)
    (folder / "alerts.yml").write_text(yaml.safe_dump(rules))
    shutil.copytree(FOLDER / "targets", folder / "targets")
    [example] = (folder / "targets").iterdir()
    example.write_text(example.read_text().replace("127.0.0.1:30000", target))
    assert target in example.read_text()
    (folder / "admin-key").write_text(admin_key + "\n")


def _is_ready(http: httpx.Client) -> bool:
    with contextlib.suppress(httpx.TransportError):
        return http.get("/-/ready").status_code == httpx.codes.OK
    return False
