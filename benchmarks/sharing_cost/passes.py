"""One workload sent to all methods, pass by pass in turns: the machine drifts, so those that
are compared must be measured side by side."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from serving.client import Client
from workloads.request import Request, in_passes
from workloads.send import Pass, replay

from sharing_cost.methods import ROUNDS, Method
from sharing_cost.occupancy import Sample, added_up, watched

COLD, WARM, AT_ONCE = "cold", "warm", "at once"
STAGES = (COLD, WARM, AT_ONCE)
PACE = {COLD: 2.0, WARM: 1.0, AT_ONCE: math.inf}
PIECES = 4  # in which methods take turns within a pass


async def compare(
    clients: Mapping[str, Client],
    requests: Sequence[Request],
    step: Callable[[], object] = lambda: None,
    rounds: Sequence[Sequence[Method]] = ROUNDS,
) -> dict[str, dict[str, Any]]:
    """Method -> stage -> figures. ``clients``: by mode.

    The first pass finds an empty cache, the second what the first has left; the third comes all
    at once, for the throughput.
    """
    passes = dict(zip(STAGES, in_passes(requests), strict=True))
    results: dict[str, dict[str, Any]] = {}
    for methods in rounds:
        for method in methods:
            await clients[method.mode.name].flush()
        for stage, part in passes.items():
            found = await _in_turns(clients, methods, stage, part, step)
            for name, figures in found.items():
                results.setdefault(name, {})[stage] = figures
    return results


async def _in_turns(
    clients: Mapping[str, Client],
    methods: Sequence[Method],
    stage: str,
    part: Sequence[Request],
    step: Callable[[], object],
) -> dict[str, dict[str, Any]]:
    """One pass of all methods. The one whose times are judged is cut into pieces, for the
    machine may be slower for some seconds."""
    pieces = in_passes(part, min(PIECES, len(part))) if stage == WARM else [part]
    done: dict[str, Pass] = {}
    samples: dict[str, list[Sample]] = {}
    for piece in pieces:
        for method in methods:
            client = clients[method.mode.name]
            work = replay(client, piece, method.naming, pace=PACE[stage], step=step)
            if stage == COLD:
                passed, samples[method.name] = await _filling(client, method, piece, work)
            else:
                passed = await work
            before = done.get(method.name)
            done[method.name] = passed if before is None else before.followed_by(passed)
    return {
        name: passed.figures()
        | ({"occupancy": [asdict(sample) for sample in samples[name]]} if name in samples else {})
        for name, passed in done.items()
    }


async def _filling(
    client: Client, method: Method, requests: Sequence[Request], work: Awaitable[Pass]
) -> tuple[Pass, list[Sample]]:
    """Only the first pass is watched: it is not the one whose times are judged."""
    if method.mode.has_owners:
        return await watched(client, work)
    done = await work
    return done, added_up(done, requests, divided=method.salted)
