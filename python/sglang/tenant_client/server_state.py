"""Whether the server is up, and how much room it has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .errors import NotReady
from .steps import Call, Pause, Reply, Steps, fault_of

_PAUSE = 0.5  # seconds between two looks
_LONGEST_CHECK = 30.0  # seconds; the server gives up after 20


@dataclass(frozen=True)
class Health:
    """``seconds``: how long the check took; it computes a token, and waits a second for it."""

    ok: bool
    status: int | None
    seconds: float
    fault: str = ""


@dataclass(frozen=True)
class Capacity:
    """How much room the first endpoint has. None: it does not tell; ``reason`` says why.

    ``context``: tokens of one conversation. ``tokens``, ``used_tokens``: of the cache on the
    device, over all replicas; ``running``, ``waiting``, ``max_running``: requests.
    """

    context: int | None = None
    tokens: int | None = None
    used_tokens: int | None = None
    running: int | None = None
    waiting: int | None = None
    max_running: int | None = None
    reason: str = ""

    @property
    def free_share(self) -> float | None:
        """Which share of the cache no running request uses."""
        if self.used_tokens is None or not self.tokens:
            return None
        return 1 - self.used_tokens / self.tokens


def health() -> Steps[Health]:
    """Ask the first endpoint whether it is up. Needs no key."""
    reply: Reply = yield Call("GET", "/health", seconds=_LONGEST_CHECK)
    return Health(reply.ok, reply.status, reply.seconds, "" if reply.ok else fault_of(reply))


def wait_ready(seconds: float) -> Steps[Health]:
    """Ask until it is up. Raises NotReady."""
    left = seconds
    while True:
        found = yield from health()
        left -= found.seconds + _PAUSE
        if found.ok:
            return found
        if left < 0:
            raise NotReady(f"the server was not ready in {seconds:g} s: {found.fault}")
        yield Pause(_PAUSE)


def capacity() -> Steps[Capacity]:
    """Ask how much room there is; where users hold keys, only operators are told."""
    models: Reply = yield Call("GET", "/v1/models")
    loads: Reply = yield Call("GET", "/v1/loads?include=core", as_operator=True)
    context = _context(models.content) if models.ok else None
    entries = loads.content.get("loads") if loads.ok and isinstance(loads.content, dict) else None
    if not isinstance(entries, list):
        return Capacity(context, reason=f"/v1/loads: {fault_of(loads)}; give the admin key")

    def total(field: str) -> int:
        return sum(int(entry.get(field, 0)) for entry in entries)

    return Capacity(
        context,
        tokens=total("max_total_num_tokens"),
        used_tokens=total("num_used_tokens"),
        running=total("num_running_reqs"),
        waiting=total("num_waiting_reqs"),
        max_running=total("max_running_requests"),
    )


def _context(content: Any) -> int | None:
    models = content.get("data") if isinstance(content, dict) else None
    length = models[0].get("max_model_len") if isinstance(models, list) and models else None
    return length if isinstance(length, int) else None
