"""All scenarios and VTC's suites under each policy, on the modelled device.

Nothing here looks at a clock: the same seed gives the same figures on every machine.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch

from fair_service.curves import curves
from fair_service.device import A10G, A10G_8B, Device
from fair_service.engine import Engine
from fair_service.gap import Gaps
from fair_service.many_users import many_users
from fair_service.measures import SHOWN, Inside, measure
from fair_service.record import Scale, Scenario, Served
from fair_service.scenarios import SCENARIOS, Writer
from fair_service.service import Prices
from fair_service.suites import WRITTEN, suite
from fair_service.workers import Workers

POLICIES = ("fcfs", "lpm", "dfs-weight", "vtc", "dlpm")
# dfs-weight matches everybody who waits in each round: minutes where thousands do.
QUICK = ("fcfs", "lpm", "vtc", "dlpm")
UPSTREAMS = ("fcfs", "lpm")
# In the suites no two prompts have anything in common: lpm is fcfs there.
SUITE = ("fcfs", "vtc", "dlpm")
UPSTREAM = "upstream "  # goes before a policy on upstream's own cache
SEED = 1
SECONDS, PROMPT, ANSWER = 300.0, 2048, 256  # of a scenario; tokens of a usual request
# Times as long: the 99th percentile of few requests says little.
LONGER = {"noisy neighbour": 5}
MANY_USERS = 2_000  # users
WARMED_UP = 120  # usual requests at once, to find the capacity
# The suites come from a server without a prefix cache.
SUITE_PRICES = Prices(cached=1.0)


@dataclass(frozen=True)
class Run:
    """One policy on one scenario. ``upstream``: on its own cache."""

    policy: str
    upstream: bool = False

    @property
    def name(self) -> str:
        return UPSTREAM + self.policy if self.upstream else self.policy


def play(
    scenario: Scenario, run: Run, device: Device = A10G_8B, prices: Prices | None = None
) -> tuple[list[Served], Inside]:
    """One run, and what only the device knows of it."""
    torch.set_num_threads(1)  # nothing here is large
    prices = prices or Prices()
    gaps = Gaps(scenario.weights) if len(scenario.users) <= SHOWN else None
    engine = Engine(
        run.policy,
        device,
        weights=scenario.weights,
        watch=gaps,
        upstream=run.upstream,
        tenant_input_weight=prices.computed,
        tenant_cached_weight=prices.cached,
        tenant_output_weight=prices.output,
    )
    served = engine.play(scenario.asks)
    idle = engine.idle_rounds * device.costs.step
    return served, Inside(gaps.worst if gaps else None, idle, device.memory)


def figures(
    scenario: Scenario,
    run: Run,
    device: Device = A10G_8B,
    *,
    prices: Prices | None = None,
    alone: dict[str, list[Served]] | None = None,
) -> dict[str, Any]:
    served, inside = play(scenario, run, device, prices)
    found = measure(scenario, served, prices=prices, alone=alone, inside=inside)
    return {**found, "curves": curves(scenario, served, prices)}


def played_alone(scenario: Scenario, device: Device = A10G_8B) -> dict[str, list[Served]]:
    """User -> what becomes of their requests when nobody else is there."""
    found = {}
    for user in scenario.users:
        asks = tuple(ask for ask in scenario.asks if ask.user == user)
        found[user] = play(replace(scenario, asks=asks), Run("fcfs"), device)[0]
    return found


def scale_of(
    device: Device = A10G_8B,
    seconds: float = SECONDS,
    prompt: int = PROMPT,
    answer: int = ANSWER,
) -> Scale:
    """The device's capacity, found by giving it usual requests of four users all at once."""
    write = Writer(Scale(seconds, 1.0, prompt, answer), SEED)
    asks = [a for n in range(4) for a in write.asks(f"u{n}", [0.0] * (WARMED_UP // 4))]
    engine = Engine("fcfs", device)
    engine.play(asks)
    return Scale(seconds, len(asks) / engine.now, prompt, answer)


def scenario_of(name: str, scale: Scale, seed: int = SEED) -> Scenario:
    return SCENARIOS[name](replace(scale, seconds=scale.seconds * LONGER.get(name, 1)), seed)


def runs_of(scenario: str, policies: Sequence[str]) -> list[Run]:
    """The cache matters to a noisy neighbour's victim: upstream's is measured there too."""
    runs = [Run(policy) for policy in policies]
    if scenario.startswith("noisy"):
        runs += [Run(policy, upstream=True) for policy in policies if policy in UPSTREAMS]
    return runs


def steps_of(policies: Sequence[str] = POLICIES, scenarios: Sequence[str] = ()) -> int:
    """How often ``replay_all`` calls ``progress``."""
    quick = [policy for policy in policies if policy in QUICK]
    each = [1 + len(runs_of(name, policies)) for name in scenarios or SCENARIOS]
    in_suites = [policy for policy in policies if policy in SUITE]
    return sum(each) + len(WRITTEN) * len(in_suites) + len(quick)


def replay_all(
    policies: Sequence[str] = POLICIES,
    scenarios: Sequence[str] = (),
    progress: Callable[[str], object] = lambda what: None,
) -> dict[str, Any]:
    """Every figure. ``scenarios``: names, empty is all; ``progress``: told after each run."""
    quick = [Run(policy) for policy in policies if policy in QUICK]
    in_suites = [Run(policy) for policy in policies if policy in SUITE]
    scale = scale_of()
    chosen = {name: scenario_of(name, scale) for name in scenarios or SCENARIOS}
    with Workers(progress) as workers:
        # What takes longest begins first.
        many = _started(workers, many_users(MANY_USERS, SEED), quick, Device())
        alone = {
            name: workers.start(f"{name}, alone", played_alone, scenario)
            for name, scenario in chosen.items()
        }
        started = {
            name: _started(workers, scenario, runs_of(name, policies), alone=alone[name].result())
            for name, scenario in chosen.items()
        }
        suites = {
            name: _started(workers, suite(name), in_suites, A10G, SUITE_PRICES) for name in WRITTEN
        }
        return {
            "device": {
                "scenarios": asdict(A10G_8B),
                "suites": asdict(A10G),
                "crowd": asdict(Device()),
            },
            "scale": asdict(scale),
            "seed": SEED,
            "scenarios": {name: part.result() for name, part in started.items()},
            "suites": {name: part.result() for name, part in suites.items()},
            "crowd": many.result(),
        }


@dataclass(frozen=True)
class _Started:
    """A scenario whose runs are on their way."""

    scenario: Scenario
    figures: dict[str, Future[dict[str, Any]]]

    def result(self) -> dict[str, Any]:
        found = {name: future.result() for name, future in self.figures.items()}
        return {**self.scenario.described(), "policies": found}


def _started(
    workers: Workers,
    scenario: Scenario,
    runs: Sequence[Run],
    device: Device = A10G_8B,
    prices: Prices | None = None,
    alone: dict[str, list[Served]] | None = None,
) -> _Started:
    def start(run: Run) -> Future[dict[str, Any]]:
        what = f"{scenario.name}, {run.name}"
        return workers.start(what, figures, scenario, run, device, prices=prices, alone=alone)

    return _Started(scenario, {run.name: start(run) for run in runs})
