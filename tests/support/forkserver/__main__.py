"""Import the engine, then fork a process for each request on a socket, until that closes."""

from __future__ import annotations

import gc
import importlib
import json
import os
import runpy
import signal
import socket
import sys
import tempfile
from pathlib import Path
from typing import Any

from support.forkserver import spawned

REQUEST_BYTES = 1 << 20

# All that a server's processes import.
IMPORTED = [
    "sglang.cli.main",
    "sglang.launch_server",
    "sglang.srt.plugins",
    "sglang.srt.server_args",
    "sglang.srt.entrypoints.http_server",
    "sglang.srt.managers.data_parallel_controller",
    "sglang.srt.managers.detokenizer_manager",
    "sglang.srt.managers.multi_tokenizer_mixin",
    "sglang.srt.managers.scheduler",
]


def main() -> None:
    requests = socket.socket(fileno=int(sys.argv[1]))
    for module in IMPORTED:
        importlib.import_module(module)
    threads = len(list(Path("/proc/self/task").iterdir()))
    assert threads == 1, f"{threads} threads: a fork has only the one that forks"
    # Forks share what the collector does not touch.
    gc.collect()
    gc.freeze()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        message, fds, *_ = socket.recv_fds(requests, REQUEST_BYTES, 2)
        if not message:
            os._exit(0)
        log, client = fds
        if os.fork() == 0:
            requests.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            _start(json.loads(message), log, socket.socket(fileno=client))
            return
        os.close(log)
        os.close(client)


def _start(request: dict[str, Any], log: int, client: socket.socket) -> None:
    """Run the script in a child; tell the client its number, and its exit code in the end."""
    child = os.fork()
    if child == 0:
        os.setsid()
        client.send(str(os.getpid()).encode())
        client.close()
        os.dup2(log, sys.stdout.fileno())
        os.dup2(log, sys.stderr.fileno())
        os.close(log)
        _run(request)
        return
    os.close(log)
    _, status = os.waitpid(child, 0)
    client.send(str(os.waitstatus_to_exitcode(status)).encode())
    os._exit(0)


def _run(request: dict[str, Any]) -> None:
    """Do as ``python SCRIPT ARGUMENTS`` does in this environment."""
    os.environ.clear()
    os.environ.update(request["env"])
    path = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    sys.path[:0] = [folder for folder in path if folder not in sys.path]
    importlib.invalidate_caches()
    # It was asked for while the engine was imported.
    tempfile.tempdir = None
    replicated = "--dp-size" in request["arguments"]
    spawned.come_from_forks(of_each=spawned.REPLICAS if replicated else 0)
    sys.argv = [request["script"], *request["arguments"]]
    runpy.run_path(request["script"], run_name="__main__")


main()
