"""How full the cache is while users come, and how much of it has become public."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

from serving.client import Client
from workloads.request import Request
from workloads.send import Pass

EVERY = 0.25  # seconds

T = TypeVar("T")


@dataclass(frozen=True)
class Sample:
    """``at``: seconds. ``held``: tokens on the device, ``public`` of them everybody's.
    ``promotions``: so far."""

    at: float
    held: int
    public: int
    promotions: int


async def watched(client: Client, work: Awaitable[T]) -> tuple[T, list[Sample]]:
    """Ask a server with owners again and again how full it is, while ``work`` is done."""
    samples: list[Sample] = []
    watch = asyncio.create_task(_watch(client, samples))
    try:
        return await work, samples
    finally:
        watch.cancel()
        with suppress(asyncio.CancelledError):
            await watch


async def _watch(client: Client, samples: list[Sample]) -> None:
    clock = asyncio.get_running_loop().time
    started, before = clock(), None
    while True:
        stats = await client.tenant_stats()
        if stats is None:
            return
        promotions = _total(stats, "promotions")
        before = promotions if before is None else before
        device = [replica["device"] for replica in stats["replicas"]]
        public = sum(tier["public"] for tier in device)
        held = public + sum(tier["private"] for tier in device)
        samples.append(Sample(clock() - started, held, public, promotions - before))
        await asyncio.sleep(EVERY)


def _total(stats: dict[str, Any], count: str) -> int:
    return sum(int(replica["counts"].get(count, 0)) for replica in stats["replicas"])


def added_up(done: Pass, requests: Sequence[Request], *, divided: bool) -> list[Sample]:
    """The same for a server that does not tell: what is new of each prompt, and its answer.

    Exact at page size 1 as long as nothing is evicted. ``divided``: users share nothing.
    """
    held, samples = 0, []
    there: dict[str, list[Sequence[int]]] = {}
    pairs = zip(done.answers, requests, strict=True)
    for answer, request in sorted(pairs, key=lambda pair: pair[0].first_at):
        known = there.setdefault(request.user if divided else "", [])
        shared = max((_common(request.prompt, other) for other in known), default=0)
        known.append(request.prompt)
        held += len(request.prompt) - shared + answer.output_tokens - 1
        public = 0 if divided else held
        samples.append(Sample(answer.first_at - done.started, held, public, 0))
    return samples


def _common(one: Sequence[int], other: Sequence[int]) -> int:
    return next(
        (place for place, (a, b) in enumerate(zip(one, other, strict=False)) if a != b),
        min(len(one), len(other)),
    )
