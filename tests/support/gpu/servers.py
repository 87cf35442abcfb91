"""The servers of the cases, each on a small pool, so that prefixes are evicted to the host."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from support.asks import Asker
from support.gpu.cases import Case
from support.gpu.device import Device
from support.operator import Operator, fresh_admin_key
from support.server import Server
from support.watch import Watch

POOL = 2048  # tokens
ADMIN_KEY = fresh_admin_key()
# As in tests/test_selective_outputs.py: prefixes become public, and cease to be, all the time.
TENANT = (
    *("--enable-tenant-cache", "--tenant-mode", "selective", "--enable-cache-report"),
    *("--tenant-detector", "off-trust-all", "--tenant-public-users", "3"),
    *("--tenant-epoch-requests", "40", "--tenant-quarantine-epochs", "1"),
    *("--tenant-rdr-threshold", "0.7", "--tenant-rdr-min-hits", "12"),
    *("--enable-hierarchical-cache", "--hicache-ratio", "3"),
    *("--max-total-tokens", str(POOL), "--chunked-prefill-size", "64"),
    *("--schedule-conservativeness", "0.3", "--admin-api-key", ADMIN_KEY),
)
# Several servers on one device, whose memory upstream would give to the first; few graphs.
ON_CUDA = ("--mem-fraction-static", "0.3", "--cuda-graph-max-bs-decode", "16")
# Any slot that is in no place, or in two, stops the server.
CHECKS = {"SGLANG_ENABLE_STRICT_MEM_CHECK_DURING_BUSY": "1", "PYTHONHASHSEED": "random"}
START_SECONDS = 900.0  # kernels are compiled when they are first wanted


@dataclass(frozen=True)
class Running:
    """The server of one case, and what its ranks write down."""

    case: Case
    server: Server
    watch: Watch

    @property
    def asker(self) -> Asker:
        return Asker(self.server, ADMIN_KEY)

    @property
    def pool(self) -> int:
        """Tokens that one request may have: upstream keeps a page for its answer."""
        return POOL - 2 * self.case.page

    @property
    def operator(self) -> Operator:
        return Operator(self.server, ADMIN_KEY)


@contextlib.contextmanager
def running(
    case: Case, device: Device, model: Path, folder: Path, plugin: str = ""
) -> Iterator[Running]:
    """The scheduler runs ahead of the device, as it does on a GPU, on a CPU too.

    ``plugin``: what is called in each process instead of what does so.
    """
    usual = "support.watch:start" if device.on_cuda else "support.overlap:start"
    watch = Watch(folder, plugin or usual)
    flags = (*TENANT, *_of(device), *case.flags)
    env = CHECKS | dict(case.env) | watch.env
    with Server(model, *flags, env=env, start_seconds=START_SECONDS) as server:
        yield Running(case, server, watch)


@contextlib.contextmanager
def without_cache(engine: Sequence[str], device: Device, model: Path) -> Iterator[Asker]:
    """A server with the same numbers that keeps nothing. ``engine``: as of the case."""
    flags = ("--disable-radix-cache", "--max-total-tokens", "16384", *_of(device), *engine)
    with Server(model, *flags, start_seconds=START_SECONDS) as server:
        yield Asker(server)


def _of(device: Device) -> tuple[str, ...]:
    return ON_CUDA if device.on_cuda else ()
