"""A response proxy on a free port: in a thread, or as users start it."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
from server_process import free_port

from sglang.srt.tenancy.response_proxy.command import server_of
from support.patience import until


@contextmanager
def running(url: str, *flags: str) -> Iterator[str]:
    """Run a proxy in a thread inside the with statement; its URL."""
    port = free_port()
    server = server_of(["--upstream", url, "--port", str(port), *flags])
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        until(lambda: server.started, "the proxy is there")
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(30)


@contextmanager
def as_a_process(url: str, *flags: str) -> Iterator[str]:
    """The same, as users start it."""
    port = free_port()
    command = [sys.executable, "-m", "sglang.srt.tenancy.response_proxy", "--upstream", url]
    process = subprocess.Popen([*command, "--port", str(port), *flags])
    proxy = f"http://127.0.0.1:{port}"
    try:
        until(lambda: process.poll() is not None or _answers(proxy), "the proxy answers")
        yield proxy
    finally:
        process.terminate()
        process.wait(30)


def _answers(url: str) -> bool:
    try:
        return httpx.get(url + "/cache/stats").status_code in (200, 401)
    except httpx.TransportError:
        return False
