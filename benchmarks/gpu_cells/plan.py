"""How much is measured on which device, and in what order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from attacks.scenario import QUICK, Effort
from fair_service.policies import SMALL_SERVER, ServerSize
from fair_service.scenarios import SCENARIOS
from serving.server import ISOLATED, SELECTIVE, UPSTREAM, Mode
from sharing_cost.methods import METHODS
from workloads.made_up import WORKLOADS
from workloads.request import Size

from gpu_cells.cells import (
    ATTACK,
    CAPACITY,
    EVICTION,
    FAIRNESS,
    PARTS,
    SHARING,
    Cell,
    in_turns,
)

ATTACKED: Mapping[str, Mode] = {mode.name: mode for mode in (UPSTREAM, ISOLATED, SELECTIVE)}


@dataclass(frozen=True)
class Trees:
    """``leaves`` of a tree, of ``users``; ``batches`` of evictions in ``seconds`` at most."""

    leaves: int
    users: int
    batches: int
    seconds: float


@dataclass(frozen=True)
class Plan:
    """``load``: of what a server can compute without any cache, how much is asked for.

    ``pool``: tokens of the device that may be cached, ``ratio`` times as many on the host;
    ``attack_pool``: while it is attacked. ``seconds``: of a fairness scenario.
    """

    device: str
    seeds: int
    size: Size
    workloads: tuple[str, ...]
    load: float
    pool: int
    ratio: float
    attack_pool: int
    attacked: tuple[str, ...]
    effort: Effort
    fairness: ServerSize
    seconds: float
    scenarios: tuple[str, ...]
    policies: tuple[str, ...]
    trees: Trees
    models: int = 9  # at most


_EFFORT = Effort(
    probes={1: 16, 64: 24, 512: 32, 2_048: 16},
    trials={1: 150, 8: 450, 64: 150},
    null_probes=20,
    secrets=2,
    symbols=4,
    host_probes=8,
    collusions=3,
    windows=0,
    chats=10,
    rounds={64: 4, 512: 2},
    flagged=20,
)
# Prompts are eight times as long as on a CPU: the first token of a short one waits for no prefill.
ON_CUDA = Plan(
    device="cuda",
    seeds=3,
    size=Size(requests=64, users=200, scale=8.0, output=16),
    workloads=tuple(WORKLOADS),
    load=0.7,
    pool=131_072,
    ratio=1.5,
    attack_pool=49_152,
    attacked=tuple(ATTACKED),
    effort=_EFFORT,
    fairness=ServerSize(prompt=1_024, answer=32, running=16, memory=65_536, chunk=4_096),
    seconds=6.0,
    scenarios=tuple(SCENARIOS),
    policies=("fcfs", "lpm", "vtc", "dlpm"),
    trees=Trees(100_000, 100, 60, 20.0),
)
QUICK_ON_CUDA = replace(
    ON_CUDA,
    seeds=1,
    size=replace(ON_CUDA.size, requests=24),
    workloads=("documents", "private chat"),
    effort=replace(QUICK, probes={64: 8, 512: 12, 2_048: 6}),
    seconds=3.0,
    scenarios=("overload", "noisy neighbour"),
    policies=("lpm", "dlpm"),
    models=1,
)
# So small that all of it runs on two cores in half an hour: to know that it runs.
ON_CPU = replace(
    ON_CUDA,
    device="cpu",
    seeds=2,
    size=Size(requests=12, users=40, scale=0.4),
    pool=24_576,
    ratio=2.0,
    attack_pool=16_384,
    effort=QUICK,
    fairness=SMALL_SERVER,
    seconds=1.0,
    scenarios=("overload", "noisy neighbour"),
    policies=("lpm", "vtc", "dlpm"),
    trees=Trees(20_000, 100, 20, 2.0),
)
QUICK_ON_CPU = replace(
    ON_CPU,
    seeds=1,
    size=Size(requests=8, users=20, scale=0.25),
    workloads=("documents",),
    attacked=(UPSTREAM.name, SELECTIVE.name),
    effort=replace(
        QUICK,
        probes={64: 4},
        trials={8: 8},
        null_probes=2,
        symbols=2,
        host_probes=2,
        collusions=1,
        chats=2,
        rounds={64: 1},
        flagged=2,
    ),
    scenarios=("overload",),
    policies=("vtc",),
    trees=Trees(2_000, 10, 8, 0.5),
    models=1,
)
PLANS = {
    ("cuda", False): ON_CUDA,
    ("cuda", True): QUICK_ON_CUDA,
    ("cpu", False): ON_CPU,
    ("cpu", True): QUICK_ON_CPU,
}


_SETTINGS = {
    SHARING: ("size", "workloads", "load", "pool", "ratio"),
    ATTACK: ("attack_pool", "effort"),
    FAIRNESS: ("fairness", "seconds", "scenarios"),
    EVICTION: ("trees",),
}


def settings_of(plan: Plan, cell: Cell) -> dict[str, Any]:
    """Those of a plan that matter to a cell."""
    part = cell.mode if cell.part == CAPACITY else cell.part
    whole = asdict(plan)
    return {name: whole[name] for name in _SETTINGS[part]}


def capacity_of(part: str, model: str) -> Cell:
    """What others of the part are measured in multiples of."""
    return Cell(CAPACITY, model, part, 0)


def cells(plan: Plan, models: Sequence[str], parts: Sequence[str] = PARTS) -> Iterator[Cell]:
    """In the order in which they are measured: all of the first model, then the others."""
    for number, model in enumerate(models):
        if SHARING in parts:
            yield capacity_of(SHARING, model)
            for mode, seed in in_turns([method.name for method in METHODS], plan.seeds):
                yield Cell(SHARING, model, mode, seed)
        if ATTACK in parts:
            for mode, seed in in_turns(plan.attacked, plan.seeds):
                yield Cell(ATTACK, model, mode, seed)
        if number == 0 and FAIRNESS in parts:
            yield capacity_of(FAIRNESS, model)
            for policy, seed in in_turns(plan.policies, plan.seeds):
                yield Cell(FAIRNESS, model, policy, seed)
        if number == 0 and EVICTION in parts:
            for seed in range(1, plan.seeds + 1):
                yield Cell(EVICTION, "", "", seed)
