"""One workload sent to all contenders, pass by pass in turns: the machine drifts, so those that
are compared must be measured side by side."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from serving.client import Client
from workloads.replay import replay
from workloads.request import Request, in_passes

from sharing_cost.contenders import ROUNDS, Contender

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
                client = clients[contender.mode.name]
                done = await replay(
                    client, part, contender.naming, at_once=stage == AT_ONCE, step=step
                )
                stats = await client.tenant_stats() if contender.mode.has_owners else None
                results.setdefault(contender.name, {})[stage] = done.figures() | {
                    "tenant_stats": stats
                }
    return results
