"""What runs beside our servers: Redis, our proxy, LiteLLM's proxy."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import debian_tools
import httpx
from server_process import free_port

LITELLM = "1.108.7"
_START_SECONDS = 120.0


class NotThere(RuntimeError):
    """It cannot be had here; the message says why."""


@contextlib.contextmanager
def redis(folder: Path) -> Iterator[str]:
    """Run a Redis that writes no file; its URL. Raises NotThere."""
    try:
        program = debian_tools.find("redis-server")
    except (debian_tools.NoApt, debian_tools.FetchFailed) as problem:
        raise NotThere(str(problem)) from problem
    port = free_port()
    command = [str(program), "--bind", "127.0.0.1", "--port", str(port), "--save", ""]
    with _process(command, folder / "redis.log"):
        yield f"redis://127.0.0.1:{port}/0"


@contextlib.contextmanager
def proxy(upstream: str, folder: Path) -> Iterator[str]:
    """Run our proxy with its cache in memory; its URL."""
    port = free_port()
    module = "sglang.srt.tenancy.response_proxy"
    command = [sys.executable, "-m", module, "--upstream", upstream, "--port", str(port), "--quiet"]
    with _process(command, folder / "proxy.log") as process:
        url = f"http://127.0.0.1:{port}"
        _wait(url + "/cache/stats", process, folder / "proxy.log")
        yield url


@contextlib.contextmanager
def litellm(upstream: str, folder: Path) -> Iterator[str]:
    """Run LiteLLM's proxy with its cache in memory; its URL. Raises NotThere."""
    program, port = _installed(), free_port()
    config = folder / "litellm.yaml"
    to = {"model": "openai/demo", "api_base": f"{upstream}/v1", "api_key": "none"}
    # JSON is YAML.
    settings = {
        "model_list": [{"model_name": "demo", "litellm_params": to}],
        "litellm_settings": {"cache": True, "cache_params": {"type": "local"}},
    }
    config.write_text(json.dumps(settings))
    command = [str(program), "--config", str(config), "--host", "127.0.0.1", "--port", str(port)]
    env = {
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "LITELLM_LOG": "ERROR",
        # No keys, as in the others: checking them is not what is compared.
        "LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "true",
    }
    with _process([*command, "--telemetry", "False"], folder / "litellm.log", env) as process:
        url = f"http://127.0.0.1:{port}"
        _wait(url + "/health/liveliness", process, folder / "litellm.log")
        yield url


def _installed() -> Path:
    """Return LiteLLM's program, in an environment of its own: it pins what we use otherwise."""
    folder = Path(sys.prefix) / "others" / f"litellm-{LITELLM}"
    done, python = folder / "installed", folder / "bin" / "python"
    if not done.exists():
        make = ["-m", "venv", "--clear", "--without-pip", str(folder)]
        install = ["-m", "pip", "--python", str(python), "install", "--quiet"]
        for arguments in (make, [*install, f"litellm[proxy]=={LITELLM}"]):
            made = subprocess.run([sys.executable, *arguments], capture_output=True, text=True)
            if made.returncode:
                raise NotThere(f"LiteLLM cannot be installed: {made.stderr.strip()[-300:]}")
        done.touch()
    return python.with_name("litellm")


@contextlib.contextmanager
def _process(
    command: Sequence[str], log: Path, env: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(env or {})},
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def _wait(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(url).status_code == httpx.codes.OK:
                return
        time.sleep(0.2)
    raise NotThere(f"{url} does not answer: {log.read_text(errors='replace')[-600:]}")
