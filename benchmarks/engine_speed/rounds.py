"""Engines that answer the same workload in turns, round by round: what slows the machine down
for a while slows all of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from engine_speed.engine import Engine, Reply
from engine_speed.load import Load


@dataclass(frozen=True)
class Played:
    """One engine's round. ``seconds``: from the first request sent to the last token.
    ``processor``: seconds that the engine's processes computed."""

    replies: Sequence[Reply]
    seconds: float
    processor: float = 0.0

    @property
    def ttfts(self) -> list[float]:
        return [reply.ttft for reply in self.replies]

    @property
    def tokens_per_second(self) -> float:
        return sum(len(reply.output) for reply in self.replies) / self.seconds

    @property
    def cached(self) -> int | None:
        """None where nobody counts."""
        counts = [reply.cached for reply in self.replies if reply.cached is not None]
        return sum(counts) if counts else None


async def in_turns(
    engines: Sequence[Engine],
    load: Load,
    rounds: int,
    step: Callable[[], object] = lambda: None,
) -> dict[str, list[Played]]:
    """Engine -> its rounds. Each begins with an empty cache; each engine comes first in turn."""
    players = [engine for engine in engines if load.name in engine.loads]
    played: dict[str, list[Played]] = {engine.name: [] for engine in players}
    for number in range(rounds):
        first = number % len(players)
        for engine in players[first:] + players[:first]:
            await engine.forget()
            played[engine.name].append(await play(engine, load))
            step()
    return played


async def play(engine: Engine, load: Load) -> Played:
    computed, started = engine.processor_seconds(), time.perf_counter()
    replies = await engine.replies(load)
    seconds = time.perf_counter() - started
    return Played(replies, seconds, engine.processor_seconds() - computed)
