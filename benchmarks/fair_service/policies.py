"""The servers that are compared: one policy each, on the same small device."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from serving.server import ISOLATED, START_SECONDS, UPSTREAM, Mode, Served, running

from fair_service.record import Scenario

UPSTREAMS = ("fcfs", "lpm", "dfs-weight")
FAIR = ("vtc", "dlpm")
POLICIES = (*UPSTREAMS, *FAIR)


@dataclass(frozen=True)
class ServerSize:
    """``prompt``, ``answer``: tokens of a usual request. ``running``: requests at a time: so few
    that there is a queue, else no policy matters. ``memory``: tokens: so few that prefixes are
    evicted. ``chunk``: tokens of prompts that are computed at once."""

    prompt: int = 160
    answer: int = 12
    running: int = 8
    memory: int = 6_144
    chunk: int = 512

    @property
    def quantum(self) -> int:
        """dlpm's, of a user: about four usual requests."""
        return 4 * (self.prompt + 2 * self.answer)

    @property
    def settings(self) -> tuple[str, ...]:
        """Flags of all servers."""
        return (
            *("--max-total-tokens", str(self.memory), "--max-running-requests", str(self.running)),
            *("--enable-hierarchical-cache", "--hicache-ratio", "2"),
            *("--chunked-prefill-size", str(self.chunk), "--log-level", "warning"),
        )


SMALL_SERVER = ServerSize()


def mode_of(policy: str, size: ServerSize = SMALL_SERVER) -> Mode:
    """Upstream's policies run on upstream's cache, ours on that of the fork."""
    base = ISOLATED if policy in FAIR else UPSTREAM
    quantum = ("--tenant-dlpm-quantum", str(size.quantum)) if policy == "dlpm" else ()
    flags = (*base.flags, "--schedule-policy", policy, *quantum)
    return Mode(policy, flags, base.private, base.about)


def weights_of(scenarios: Iterable[Scenario]) -> dict[str, float]:
    """For one server that serves all of these. Raises ValueError where they disagree."""
    found: dict[str, float] = {}
    for scenario in scenarios:
        for user in scenario.users:
            weight = scenario.weights.get(user, 1.0)
            if found.setdefault(user, weight) != weight:
                raise ValueError(f"{user} has another weight in {scenario.name}")
    return {user: weight for user, weight in found.items() if weight != 1.0}


@contextmanager
def serving(
    model: Served,
    policy: str,
    weights: Mapping[str, float],
    size: ServerSize = SMALL_SERVER,
    *,
    threads: int | None = 1,
    seconds: float = START_SECONDS,
) -> Iterator[str]:
    """The URL of a server with this policy that runs inside the with statement."""
    with TemporaryDirectory(prefix="weights-") as folder:
        mode = mode_of(policy, size)
        settings = list(size.settings)
        if mode.has_owners:
            settings += ["--tenant-config", str(_config(Path(folder), weights))]
        with running(model, mode, settings, threads=threads, seconds=seconds) as url:
            yield url


def _config(folder: Path, weights: Mapping[str, float]) -> Path:
    path = folder / "tenants.toml"
    tables = [f'[users."{user}"]\nweight = {weight}\n' for user, weight in weights.items()]
    path.write_text("".join(tables))
    return path
