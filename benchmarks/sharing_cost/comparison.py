"""One workload sent to all contenders, pass by pass in turns: the machine drifts, so those that
are compared must be measured side by side."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from serving.client import Client
from workloads.replay import Pass, replay
from workloads.request import Request, in_passes

from sharing_cost.contenders import ROUNDS, Contender
from sharing_cost.occupancy import added_up, watched

COLD, WARM, AT_ONCE = "cold", "warm", "at once"
STAGES = (COLD, WARM, AT_ONCE)


async def compare(
    clients: Mapping[str, Client],
    requests: Sequence[Request],
    step: Callable[[], object] = lambda: None,
    rounds: Sequence[Sequence[Contender]] = ROUNDS,
) -> dict[str, dict[str, Any]]:
    """Contender -> stage -> figures. ``clients``: by mode.

    The first pass finds an empty cache, the second what the first has left; the third comes all
    at once, for the throughput.
    """
    passes = dict(zip(STAGES, in_passes(requests), strict=True))
    results: dict[str, dict[str, Any]] = {}
    for contenders in rounds:
        for contender in contenders:
            await clients[contender.mode.name].flush()
        for stage, part in passes.items():
            for contender in contenders:
                work = replay(
                    clients[contender.mode.name],
                    part,
                    contender.naming,
                    at_once=stage == AT_ONCE,
                    step=step,
                )
                figures = await (
                    _filling(clients[contender.mode.name], contender, part, work)
                    if stage == COLD
                    else _figures(work)
                )
                results.setdefault(contender.name, {})[stage] = figures
    return results


async def _figures(work: Awaitable[Pass]) -> dict[str, Any]:
    return (await work).figures()


async def _filling(
    client: Client, contender: Contender, requests: Sequence[Request], work: Awaitable[Pass]
) -> dict[str, Any]:
    """Only the first pass is watched: it is not the one whose times are judged."""
    if not contender.mode.has_owners:
        done = await work
        samples = added_up(done, requests, divided=contender.salted)
    else:
        done, samples = await watched(client, work)
    return done.figures() | {"occupancy": [asdict(sample) for sample in samples]}
