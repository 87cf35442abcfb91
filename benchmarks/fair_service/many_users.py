"""Thousands of users: most ask little, a few ask without end."""

from __future__ import annotations

import random

from fair_service.record import Ask, Scenario

HEAVY = 10
EACH = 0.2  # seconds of the trace for each user: the light ones alone are two thirds of a load


def many_users(users: int, seed: int) -> Scenario:
    """All have a beginning of their own; the heavy ones ask 200 times within 5 seconds."""
    asks = conversations(users, seed, HEAVY)
    return Scenario(
        "crowd",
        f"{users} users, of whom {HEAVY} ask without end",
        tuple(sorted(asks, key=lambda ask: ask.at)),
        backlogged=frozenset(f"u{number}" for number in range(HEAVY)),
    )


def conversations(users: int, seed: int, heavy: int = HEAVY) -> list[Ask]:
    rng = random.Random(seed)
    trace: list[Ask] = []
    for number in range(users):
        asks = 200 if number < heavy else rng.randrange(1, 5)
        system = _tokens(rng, 400)
        for _ in range(asks):
            prompt = (system if rng.random() < 0.7 else []) + _tokens(rng, rng.randrange(20, 400))
            at = rng.random() * (5 if number < heavy else users * EACH)
            trace.append(Ask(at, f"u{number}", prompt, rng.randrange(4, 120)))
    return trace


def _tokens(rng: random.Random, count: int) -> list[int]:
    return [rng.randrange(1 << 30) for _ in range(count)]
