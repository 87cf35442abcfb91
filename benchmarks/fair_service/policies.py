"""The servers that are compared: one policy each, on the same small device."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from serving.server import ISOLATED, UPSTREAM, Mode, Model, running

from fair_service.record import Scenario

PROMPT, ANSWER = 160, 12  # tokens of a usual request
RUNNING = 8  # requests at a time: so few that there is a queue, else no policy matters
MEMORY = 6_144  # tokens: so few that prefixes are evicted
QUANTUM = 4 * (PROMPT + 2 * ANSWER)  # dlpm's, of a user: about four usual requests

UPSTREAMS = ("fcfs", "lpm", "dfs-weight")
FAIR = ("vtc", "dlpm")
POLICIES = (*UPSTREAMS, *FAIR)

SETTINGS = (
    *("--max-total-tokens", str(MEMORY), "--max-running-requests", str(RUNNING)),
    *("--enable-hierarchical-cache", "--hicache-ratio", "2", "--chunked-prefill-size", "512"),
    *("--log-level", "warning"),
)


def mode_of(policy: str) -> Mode:
    """Upstream's policies run on upstream's cache, ours on that of the fork."""
    base = ISOLATED if policy in FAIR else UPSTREAM
    quantum = ("--tenant-dlpm-quantum", str(QUANTUM)) if policy == "dlpm" else ()
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
def serving(model: Path, size: str, policy: str, weights: Mapping[str, float]) -> Iterator[str]:
    """The URL of a server with this policy that runs inside the with statement."""
    with TemporaryDirectory(prefix="weights-") as folder:
        mode = mode_of(policy)
        settings = list(SETTINGS)
        if mode.has_owners:
            settings += ["--tenant-config", str(_config(Path(folder), weights))]
        with running(Model(model, size), mode, settings) as url:
            yield url


def _config(folder: Path, weights: Mapping[str, float]) -> Path:
    path = folder / "tenants.toml"
    tables = [f'[users."{user}"]\nweight = {weight}\n' for user, weight in weights.items()]
    path.write_text("".join(tables))
    return path
