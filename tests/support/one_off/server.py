"""A whole server on the CPU: users who come once, each with one token of an answer."""

from __future__ import annotations

import itertools
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import demo_model
import httpx
import psutil

from support.one_off.samples import Sample
from support.server import Server

FLAGS = (
    *("--enable-tenant-cache", "--enable-hierarchical-cache", "--hicache-ratio", "2"),
    *("--max-total-tokens", "4096", "--schedule-policy", "vtc", "--tenant-epoch-requests", "256"),
)
CONFIG = "[default]\nmax_running = 1\ntokens_per_minute = 6000\n"
CLIENTS = 16
SAMPLES = 60


def play(users: int) -> list[Sample]:
    """So many users come. One sample: ``users`` so far, and bytes of each process."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        demo_model.make_model(folder / "model")
        (folder / "tenants.toml").write_text(CONFIG)
        flags = (*FLAGS, "--tenant-config", str(folder / "tenants.toml"))
        with Server(folder / "model", *flags) as server:
            return list(_samples(server, users))


def _samples(server: Server, users: int) -> Iterator[Sample]:
    names = _processes(server)
    numbers, ended = itertools.count(), threading.Event()
    served: list[int] = [0] * CLIENTS

    def come(client: int) -> None:
        with httpx.Client(base_url=server.url, timeout=120.0) as http:
            while not ended.is_set():
                number = next(numbers)
                body = {
                    "text": f"document {number // 100} is read by {number}",
                    "user_id": f"visitor-{number}",
                    "sampling_params": {"max_new_tokens": 1},
                }
                http.post("/generate", json=body).raise_for_status()
                served[client] += 1

    clients = [threading.Thread(target=come, args=(client,)) for client in range(CLIENTS)]
    for thread in clients:
        thread.start()
    try:
        for number in range(SAMPLES):
            while sum(served) < users * (number + 1) // SAMPLES:
                if not any(thread.is_alive() for thread in clients):
                    raise RuntimeError("server: it answers no client any more; see above")
                time.sleep(0.01)
            sample: Sample = {"users": float(sum(served))}
            sample |= {name: float(found.memory_info().rss) for name, found in names.items()}
            if number % 6 == 5:
                print(f"server: {sum(served):,} of {users:,} users", file=sys.stderr, flush=True)
            yield sample
    finally:
        ended.set()
        for thread in clients:
            thread.join()


def _processes(server: Server) -> dict[str, psutil.Process]:
    found = {"http": psutil.Process(server.running.popen.pid)}
    for process in server.processes():
        title = " ".join(process.cmdline())
        for part, name in (
            ("sglang::scheduler", "scheduler"),
            ("sglang::detokenizer", "detokenizer"),
            ("detect.worker", "detector"),
        ):
            if part in title:
                found[name] = process
    return found
