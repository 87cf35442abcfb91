"""A plugin that looks at the tree before every step of the scheduler, and writes down what it sees.

Each rank checks the tree's invariants (a broken one stops the server) and writes a line of JSON
to its own file whenever something has changed:

    {"seed": hash}                              once: how this process orders sets of strings
    {"step": n, "waiting": n, "digest": "…", "counts": {…}, "device": tokens,
     "host": tokens, "deferred": tokens}
    {"batch": [[rid, tokens found, tokens to compute], …]}        each prefill
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from sglang.srt.tenancy.http.request_ids import client_id
from support import plugin
from support.patience import until

_FOLDER = "WATCH_FOLDER"  # environment variable


class Watch:
    """What the ranks of one server have written so far."""

    def __init__(self, folder: Path, start: str = "support.watch:start"):
        self.folder = folder
        self.env = {
            "PYTHONPATH": plugin.install(folder, start),
            _FOLDER: str(folder),
        }

    def lines(self, rank: int = 0) -> list[dict[str, Any]]:
        text = (self.folder / f"rank-{rank}").read_text()
        return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]

    def steps(self, rank: int = 0) -> list[dict[str, Any]]:
        return [line for line in self.lines(rank) if "step" in line]

    @property
    def counts(self) -> dict[str, int]:
        """How often the tree did what, so far."""
        return dict(self.steps()[-1]["counts"])

    def batches(self) -> list[list[Any]]:
        return [line["batch"] for line in self.lines() if "batch" in line]

    def wait_for_waiting(self, requests: int) -> None:
        """Until that many requests wait for their turn."""
        until(lambda: self.steps()[-1]["waiting"] == requests, f"{requests} are waiting")


def start() -> None:
    """Called by upstream in every process."""
    from sglang.srt.plugins.hook_registry import HookRegistry, HookType

    scheduler = "sglang.srt.managers.scheduler.Scheduler"
    watcher = _Watcher()
    HookRegistry.register(f"{scheduler}.process_input_requests", watcher.step, HookType.BEFORE)
    HookRegistry.register(f"{scheduler}.run_batch", watcher.batch, HookType.BEFORE)


class _Watcher:
    def __init__(self) -> None:
        self.steps = 0
        self.seen: Any = None
        self.file: Any = None

    def step(self, scheduler: Any, *_: Any) -> None:
        self.steps += 1
        cache: Any = scheduler.tree_cache
        seen = {
            "waiting": len(scheduler.waiting_queue),
            "digest": cache.digest(),
            "counts": cache.core.counts,
            "device": sum(cache.core.device.order.sizes.values()),
            "host": sum(cache.core.host.order.sizes.values()) if cache.core.host else 0,
            "deferred": cache.core.device_frees.tokens,
        }
        if seen != self.seen:
            cache.sanity_check()
            self.seen = seen | {"counts": dict(cache.core.counts)}
            self._write(scheduler, {"step": self.steps} | seen)

    def batch(self, scheduler: Any, batch: Any, *_: Any) -> None:
        if batch.forward_mode.is_extend():
            requests = zip(batch.reqs, batch.prefix_lens, batch.extend_lens, strict=True)
            parts = [[client_id(req.rid), *lens] for req, *lens in requests]
            self._write(scheduler, {"batch": parts})

    def _write(self, scheduler: Any, line: dict[str, Any]) -> None:
        if self.file is None:
            path = Path(os.environ[_FOLDER]) / f"rank-{scheduler.ps.tp_rank}"
            self.file = path.open("a", buffering=1)
            self._write(scheduler, {"seed": hash("a set of strings")})
        self.file.write(json.dumps(line) + "\n")
