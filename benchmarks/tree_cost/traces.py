"""The prompts that the trees are filled and asked with; the same for every tree and run."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate, count
from typing import NamedTuple

SEED = 20250817
SYSTEM = 16  # tokens of the beginning that a user's leaves share
LEAF = 5  # tokens of a leaf: 200,000 of them are a million cached tokens
LONG = 812  # tokens of the prompt that match and insert are timed with

# Where the token numbers of each kind of prompt begin, so that none meets another.
_LEAVES, _LONG, _TALKS = 10_000_000, 2_000_000_000, 4_000_000_000


@dataclass(frozen=True)
class Shape:
    """A tree of this many leaves, spread evenly over the users."""

    leaves: int
    users: int

    def tokens(self) -> int:
        return self.leaves * LEAF + self.users * SYSTEM


class Prompt(NamedTuple):
    user: int
    tokens: list[int]


class Turn(NamedTuple):
    """One request of a conversation: all that was said before with the next question."""

    user: int
    tokens: list[int]
    answer: list[int]


def leaf(number: int, users: int) -> Prompt:
    """A turn behind its user's system prompt; no two numbers share more than that."""
    user = number % users
    start = _LEAVES + number * LEAF
    return Prompt(user, [*_system(user), *range(start, start + LEAF)])


def long_prompt(number: int, users: int) -> Prompt:
    user = number % users
    start = _LONG + number * LONG
    return Prompt(user, [*_system(user), *range(start, start + LONG - SYSTEM)])


def _system(user: int) -> range:
    return range(user * SYSTEM, (user + 1) * SYSTEM)


def talks(number: int, turns: int, words: int = 20) -> Iterator[Turn]:
    """Conversations of as many users with nothing in common, who take turns."""
    fresh = count(_TALKS)
    histories: list[list[int]] = [[] for _ in range(number)]
    for _ in range(turns):
        for user, history in enumerate(histories):
            history += _take(fresh, words)
            answer = _take(fresh, words)
            yield Turn(user, list(history), answer)
            history += answer


def mixed(users: int, requests: int, seed: int = SEED) -> Iterator[Turn]:
    """Requests as servers see them: few users ask much and many little (Zipf); conversations
    that go on are begun with one of a few beginnings, which all users share."""
    rng = random.Random(seed)
    fresh = count(_TALKS)
    beginnings = [_take(fresh, 48) for _ in range(8)]
    user_weights = list(accumulate(1 / rank**1.1 for rank in range(1, users + 1)))
    beginning_weights = list(accumulate(1 / rank for rank in range(1, len(beginnings) + 1)))
    live: dict[int, list[list[int]]] = {}
    for _ in range(requests):
        user = rng.choices(range(users), cum_weights=user_weights)[0]
        histories = live.setdefault(user, [])
        if not histories or rng.random() < 0.3:
            histories.append(list(rng.choices(beginnings, cum_weights=beginning_weights)[0]))
            del histories[:-3]
        history = rng.choice(histories)
        history += _take(fresh, rng.randint(8, 24))
        answer = _take(fresh, rng.randint(8, 24))
        yield Turn(user, list(history), answer)
        history += answer


def _take(fresh: Iterator[int], wanted: int) -> list[int]:
    return [next(fresh) for _ in range(wanted)]
