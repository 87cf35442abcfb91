"""The order in which requests come back that queued behind a long one.

Where the server serves the longest match first, the right guess overtakes the wrong ones: the
attacker needs no clock.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from serving.separation import Separation, separation

from attacks.scenario import ATTACKER, HOT, Scenario

BUSY_TOKENS = 512  # of the request behind which guesses queue
ACCEPT_SECONDS = 60.0
GUESSES = 5  # of each kind, to a round
TAIL = 64  # tokens behind each queued guess, so that one round of the server serves few of them


async def by_order(scenario: Scenario, guesses: Sequence[list[int]]) -> list[float]:
    """Minus the place in which each comes back, counted from 0."""
    accepted = asyncio.Event()
    busy = asyncio.create_task(
        scenario.client.ask(scenario.prompts.fresh(BUSY_TOKENS), ATTACKER, accepted=accepted)
    )
    await asyncio.wait_for(accepted.wait(), ACCEPT_SECONDS)
    answers = await asyncio.gather(
        *(
            scenario.client.ask([*guess, *scenario.prompts.tail(TAIL)], ATTACKER)
            for guess in guesses
        )
    )
    await busy
    moments = sorted(answer.done_at for answer in answers)
    return [-float(moments.index(answer.done_at)) for answer in answers]


async def membership(scenario: Scenario, length: int, rounds: int, family: int) -> Separation:
    """Whole prompts of ``length`` that victims said, among others that nobody did."""
    hits: list[float] = []
    misses: list[float] = []
    for _ in range(rounds):
        hot = [scenario.prompts.fresh(length) for _ in range(GUESSES)]
        cold = [scenario.prompts.fresh(length) for _ in range(GUESSES)]
        await scenario.victims_say(hot)
        guesses = scenario.shuffled(hot, cold)
        places = await by_order(scenario, [prompt for _, prompt in guesses])
        for (kind, _), place in zip(guesses, places, strict=True):
            (hits if kind is HOT else misses).append(place)
        scenario.step()
    return separation(hits, misses, family=family)
