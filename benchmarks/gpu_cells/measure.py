"""How the figures of one cell come about: by the workloads, attacks and scenarios of the others."""

from __future__ import annotations

import asyncio
import math
import tempfile
from collections.abc import Callable, Hashable, Mapping
from contextlib import AbstractContextManager, ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import psutil
from attacks.attack_targets import targets
from attacks.campaign import attack
from attacks.forgery import write_config
from attacks.scenario import Scenario
from fair_service import live
from fair_service.endpoint import Endpoint, Speech
from fair_service.policies import serving, weights_of
from fair_service.record import Scale
from fair_service.scenarios import SCENARIOS
from serving.client import Client
from serving.prompts import Prompts
from serving.server import UPSTREAM, Mode, running
from sharing_cost.methods import METHODS
from sharing_cost.passes import compare
from side_channel import ADMIN_KEY
from side_channel import SETTINGS as ATTACK_SETTINGS
from workloads.made_up import make
from workloads.request import Request
from workloads.send import replay
from workloads.traces import at_rate

from gpu_cells.cells import ATTACK, CAPACITY, EVICTION, FAIRNESS, SHARING, Cell, Store
from gpu_cells.evictions import evictions_of
from gpu_cells.models import Dummy
from gpu_cells.plan import ATTACKED, Plan, capacity_of

ATTACK_RATIO = 3.0  # as ATTACK_SETTINGS have it
HOST_SHARE = 0.5  # of the host's free memory, for the host tier
START_SECONDS = 900.0  # kernels are compiled when they are first wanted
CAPACITY_PROMPTS, CAPACITY_TOKENS = 16, 512  # the latter times the plan's scale

Figures = dict[str, Any]


class Measurer:
    """Starts a server where the last cell's is no use. To be closed."""

    def __init__(self, plan: Plan, models: Mapping[str, Dummy], store: Store) -> None:
        self.plan = plan
        self._models = models
        self._store = store
        self._key: Hashable = None
        self._url = ""
        self._server = ExitStack()

    def close(self) -> None:
        """End the server."""
        self._server.close()
        self._key = None

    def figures(self, cell: Cell) -> Figures:
        """Measure a cell. Raises ServerFailed, Refused."""
        if cell.part == CAPACITY:
            return asyncio.run(self._capacity(cell))
        if cell.part == EVICTION:
            self.close()
            return evictions_of(self.plan.trees, self.plan.device)
        measure = {SHARING: self._sharing, ATTACK: self._attack, FAIRNESS: self._fairness}
        return asyncio.run(measure[cell.part](cell))

    def _at(self, key: Hashable, start: Callable[[], AbstractContextManager[str]]) -> str:
        """The URL of the server by this key."""
        if key != self._key:
            self.close()
            self._url = self._server.enter_context(start())
            self._key = key
        return self._url

    async def _capacity(self, cell: Cell) -> Figures:
        if cell.mode == FAIRNESS:
            async with Endpoint(self._fair_server(cell.model, "fcfs"), Speech()) as endpoint:
                return {"requests_per_second": await live.capacity_of(endpoint, self._scale(1.0))}
        prompts, size = Prompts(0), self.plan.size
        tokens = size.tokens(CAPACITY_TOKENS)
        asked = [
            Request(0.0, "", prompts.fresh(tokens), size.output) for _ in range(CAPACITY_PROMPTS)
        ]
        async with Client(self._sharing_server(cell.model, UPSTREAM), ADMIN_KEY) as client:
            await _warm_up(client, tokens)
            done = await replay(client, asked, lambda _: {}, pace=math.inf)
        return {"tokens_per_second": done.figures()["tokens_per_second"]}

    async def _sharing(self, cell: Cell) -> Figures:
        method = next(each for each in METHODS if each.name == cell.mode)
        plan, found = self.plan, {}
        url = self._sharing_server(cell.model, method.mode)
        async with Client(url, ADMIN_KEY) as client:
            await _warm_up(client, plan.size.tokens(CAPACITY_TOKENS))
            for name in plan.workloads:
                asked = self._paced(cell.model, make(name, plan.size, cell.seed))
                passes = await compare({method.mode.name: client}, asked, rounds=((method,),))
                found[name] = passes[method.name]
                for figures in found[name].values():
                    figures.pop("occupancy", None)
        return found

    def _paced(self, model: str, asked: list[Request]) -> list[Request]:
        """As many tokens a second as the plan loads the server with."""
        capacity = self._measured(capacity_of(SHARING, model))["tokens_per_second"]
        usual = sum(len(request.prompt) for request in asked) / len(asked)
        return at_rate(asked, self.plan.load * capacity / usual)

    async def _attack(self, cell: Cell) -> Figures:
        plan, mode = self.plan, ATTACKED[cell.mode]
        pool = self._pool(cell.model, plan.attack_pool, ATTACK_RATIO)
        settings = (*ATTACK_SETTINGS, "--max-total-tokens", str(pool))
        with tempfile.TemporaryDirectory() as folder:
            config = ("--tenant-config", str(write_config(Path(folder)))) if mode.has_owners else ()
            key = (ATTACK, cell.model, cell.mode)
            url = self._at(key, partial(self._running, cell.model, mode, (*settings, *config)))
            async with Client(url, ADMIN_KEY) as client:
                await client.flush()
                scenario = Scenario(client, Prompts(cell.seed), mode, plan.effort, mode.has_owners)
                await _warm_up(client, max(plan.effort.probes))
                found = await attack(scenario, pool)
        judged = targets({cell.mode: found})
        return found | {"targets": [t.row(target="name", shown="shown", met="met") for t in judged]}

    async def _fairness(self, cell: Cell) -> Figures:
        plan, found = self.plan, {}
        capacity = self._measured(capacity_of(FAIRNESS, cell.model))["requests_per_second"]
        scale = self._scale(capacity)
        async with Endpoint(self._fair_server(cell.model, cell.mode), Speech()) as endpoint:
            chosen = [SCENARIOS[name](scale, cell.seed) for name in plan.scenarios]
            alone = await live.alone(endpoint, chosen, lambda _: None)
            for scenario in chosen:
                before = alone.get(scenario.name)
                memory = plan.fairness.memory
                figures = await live.run(endpoint, scenario, scale.seconds, before, memory)
                figures.pop("curves")
                found[scenario.name] = figures
        return found

    def _scale(self, capacity: float) -> Scale:
        size = self.plan.fairness
        return Scale(self.plan.seconds, capacity, size.prompt, size.answer)

    def _fair_server(self, model: str, policy: str) -> str:
        small = Scale(1.0, 1.0, 8, 1)
        weights = weights_of(SCENARIOS[name](small, 1) for name in self.plan.scenarios)
        start = partial(
            serving,
            *(self._models[model], policy, weights, self.plan.fairness),
            threads=self._threads,
            seconds=START_SECONDS,
        )
        return self._at((FAIRNESS, model, policy), start)

    def _sharing_server(self, model: str, mode: Mode) -> str:
        plan = self.plan
        pool = self._pool(model, plan.pool, plan.ratio)
        settings = (
            *("--max-total-tokens", str(pool)),
            *("--enable-hierarchical-cache", "--hicache-ratio", str(plan.ratio)),
            *("--admin-api-key", ADMIN_KEY, "--log-level", "warning"),
        )
        return self._at((SHARING, model, mode.name), partial(self._running, model, mode, settings))

    def _running(
        self, model: str, mode: Mode, settings: tuple[str, ...]
    ) -> AbstractContextManager[str]:
        threads, seconds = self._threads, START_SECONDS
        return running(self._models[model], mode, settings, threads=threads, seconds=seconds)

    @property
    def _threads(self) -> int | None:
        """Of the model, where it computes on a CPU."""
        return 1 if self.plan.device == "cpu" else None

    def _pool(self, model: str, wanted: int, ratio: float) -> int:
        """Tokens of the device, where the host has memory for ``ratio`` times as many."""
        free = psutil.virtual_memory().available * HOST_SHARE / ratio
        return min(wanted, int(free / self._models[model].shape.kv_of_a_token))

    def _measured(self, cell: Cell) -> Figures:
        """What another cell has found. Raises RuntimeError where it failed."""
        if (found := self._store.figures(cell)) is None:
            raise RuntimeError(f"{cell.name} is needed for this, and has failed")
        return found


async def _warm_up(client: Client, longest: int) -> None:
    """The first prompts of each size pay for memory, and kernels, that later ones find ready."""
    for tokens in (2, 64, longest) * 2:
        await client.ask([tokens] * tokens, "warm-up", output=4)
