"""The scenarios against a server that runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from fair_service.curves import curves
from fair_service.endpoint import CUT, Endpoint, Patience, Reply, outcomes
from fair_service.measures import Inside, measure
from fair_service.record import Ask, Scale, Scenario, Served
from fair_service.scenarios import Writer
from fair_service.service import Prices, last_arrival, last_finish, service_at

SEED = 1
BURST = 64  # usual requests, all at once, to find the capacity
# Times a scenario's length: no request comes after 1, those that run then are mostly finished by
# 1.15, and a victim is waited for until 1.5.
LEAST, MOST = 1.15, 1.5

Alone = Mapping[str, Sequence[Served]]
Progress = Callable[[int], object]


async def capacity_of(endpoint: Endpoint, scale: Scale) -> float:
    """Usual requests that are finished in a second when there are always enough.

    Raises RuntimeError where the server refuses them.
    """
    await _finished(endpoint, _burst(scale, BURST // 4))  # pays for memory that others find
    await endpoint.flush()
    return BURST / last_finish(await _finished(endpoint, _burst(scale, BURST)))


def _burst(scale: Scale, count: int) -> list[Ask]:
    write = Writer(scale, SEED)
    return [ask for n in range(4) for ask in write.asks(f"u{n}", [0.0] * (count // 4))]


async def _finished(endpoint: Endpoint, asks: Sequence[Ask]) -> list[Served]:
    replies = await endpoint.play(asks)
    for reply in replies:
        if not reply.finished:
            raise RuntimeError(f"the server answered {reply.status}: {reply.error}")
    return [reply.served for reply in replies]


async def alone(
    endpoint: Endpoint, scenarios: Sequence[Scenario], progress: Progress
) -> dict[str, dict[str, list[Served]]]:
    """Scenario -> victim -> what becomes of their requests when nobody else is there."""
    found = {}
    for scenario in scenarios:
        if scenario.victim is not None:
            asks = [ask for ask in scenario.asks if ask.user == scenario.victim]
            await endpoint.flush()
            replies = await endpoint.play(asks, progress=progress)
            found[scenario.name] = {scenario.victim: [reply.served for reply in replies]}
    return found


async def run(
    endpoint: Endpoint,
    scenario: Scenario,
    seconds: float,
    alone: Alone | None = None,
    memory: int | None = None,
    progress: Progress = lambda done: None,
) -> dict[str, Any]:
    """Every figure of one scenario. ``memory``: tokens that fit, where that is known."""
    await endpoint.flush()
    patience = Patience(LEAST * seconds, MOST * seconds, scenario.victim)
    replies = await endpoint.play(scenario.asks, patience, progress)
    return figures(scenario, replies, alone=alone, memory=memory)


def figures(
    scenario: Scenario,
    replies: Sequence[Reply],
    *,
    alone: Alone | None = None,
    memory: int | None = None,
) -> dict[str, Any]:
    served = [reply.served for reply in replies]
    prices = Prices()
    measured = measure(scenario, served, prices=prices, alone=alone, inside=Inside(memory=memory))
    return {
        **measured,
        "throughput": _throughput(served),
        "outcomes": outcomes(replies),
        "errors": sorted({r.error for r in replies if r.error and r.error != CUT})[:5],
        "curves": curves(scenario, served, prices),
    }


def _throughput(served: Sequence[Served]) -> float:
    """Tokens of prompts and answers per second, up to the last arrival: the time for which all
    policies are watched. After it, some runs are cut sooner than others."""
    end = last_arrival(served)
    tokens = service_at(served, Prices(computed=1.0, cached=1.0, output=1.0), [end])
    return float(tokens[0]) / end if end > 0 else 0.0
