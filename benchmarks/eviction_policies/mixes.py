"""Requests of users who compete for memory, always the same ones.

All are for tiers of 8,192 and 16,384 tokens. ``kind`` of a user: its name without what numbers it.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import accumulate, count
from typing import NamedTuple

SEED = 20250817


class Ask(NamedTuple):
    user: str
    prompt: list[int]

    @property
    def kind(self) -> str:
        return self.user.rstrip("0123456789")


class Writer:
    """Makes up tokens that nobody else has, and draws."""

    def __init__(self, seed: int = SEED):
        self.random = random.Random(seed)
        self._fresh = count(1)

    def words(self, number: int) -> list[int]:
        return [next(self._fresh) for _ in range(number)]

    def texts(self, number: int, tokens: int) -> list[list[int]]:
        return [self.words(tokens) for _ in range(number)]

    def zipf(self, number: int, exponent: float) -> Callable[[], int]:
        sums = list(accumulate(1 / (rank + 1) ** exponent for rank in range(number)))
        return lambda: self.random.choices(range(number), cum_weights=sums)[0]

    def chance(self, probability: float) -> bool:
        return self.random.random() < probability


def crowd(write: Writer) -> Iterator[Ask]:
    """A conversation of 2,000 tokens is asked again after every 60 users who come once."""
    talk = write.words(2_000)
    for number in count():
        if number % 61 == 0:
            yield Ask("stays", talk)
        else:
            yield Ask(f"once{number}", write.words(40))


def crowd_and_teams(write: Writer) -> Iterator[Ask]:
    """Eight users who come every 80 requests, and users who come once."""
    talks = write.texts(8, 400)
    for number in count():
        if number % 10 == 0:
            yield Ask(f"stays{number // 10 % 8}", talks[number // 10 % 8])
        else:
            yield Ask(f"once{number}", write.words(write.random.randrange(20, 80)))


def scans(write: Writer, scanners: int = 2, tokens: int = 300) -> Iterator[Ask]:
    """Some never ask the same twice; three users of four documents each ask a tenth of the time."""
    own = write.texts(12, tokens)
    for number in count():
        if write.chance(0.1):
            one = write.random.randrange(12)
            yield Ask(f"small{one % 3}", own[one])
        else:
            yield Ask(f"scan{number % scanners}", write.words(tokens))


def many_scans(write: Writer) -> Iterator[Ask]:
    """Twenty scan; one asks for six documents now and then."""
    own = write.texts(6, 100)
    while True:
        if write.chance(0.02):
            yield Ask("small", write.random.choice(own))
        else:
            yield Ask(f"scan{write.random.randrange(20)}", write.words(100))


def loops(write: Writer) -> Iterator[Ask]:
    """Two go round and round in more than fits, beside three small users."""
    rounds, own = [write.texts(70, 300) for _ in range(2)], write.texts(12, 300)
    for number in count():
        if write.chance(0.15):
            one = write.random.randrange(12)
            yield Ask(f"small{one % 3}", own[one])
        else:
            yield Ask(f"loop{number % 2}", rounds[number % 2][number // 2 % 70])


def talks(
    write: Writer, users: int = 40, turns: int = 10, first: int = 200, turn: int = 50
) -> Iterator[Ask]:
    """Conversations that grow and end; a few users have most of them."""
    said: dict[int, list[int]] = {}
    draw = write.zipf(users, 0.8)
    while True:
        user = draw()
        talk = said.get(user)
        if talk is None or len(talk) > 3_000 or write.chance(1 / turns):
            talk = write.words(first)
        said[user] = [*talk, *write.words(turn)]
        yield Ask(f"user{user}", said[user])


def short_talks(write: Writer, turns: int = 2, pause: float = 120) -> Iterator[Ask]:
    """Each user has one conversation of two turns, and is gone."""
    going: list[tuple[float, int, int, list[int]]] = []
    users = count()
    for now in count():
        if going and going[0][0] <= now:
            _, user, left, talk = heapq.heappop(going)
            talk = [*talk, *write.words(60)]
        else:
            user, left, talk = next(users), turns, write.words(100)
        yield Ask(f"user{user}", talk)
        if left > 1:
            again = now + write.random.expovariate(1 / pause)
            heapq.heappush(going, (again, user, left - 1, talk))


def three_turns(write: Writer) -> Iterator[Ask]:
    """The same with three turns."""
    return short_talks(write, turns=3, pause=60)


def short_talks_and_one(write: Writer) -> Iterator[Ask]:
    """Users of two turns, and one conversation of 2,000 tokens that is asked again and again."""
    talk = write.words(2_000)
    for number, ask in enumerate(short_talks(write)):
        if number % 40 == 0:
            yield Ask("stays", talk)
        yield ask


def growers(write: Writer) -> Iterator[Ask]:
    """Three with long conversations, one who seldom asks for five documents."""
    own = write.texts(5, 200)
    for ask in talks(write, 3, 40, 200, 100):
        if write.chance(0.04):
            yield Ask("small", write.random.choice(own))
        yield ask


def zipf(write: Writer) -> Iterator[Ask]:
    """30 users with 40 documents each, both by Zipf's law."""
    documents: dict[tuple[int, int], list[int]] = {}
    user, document = write.zipf(30, 1.0), write.zipf(40, 0.9)
    while True:
        place = user(), document()
        if place not in documents:
            documents[place] = write.words(300)
        yield Ask(f"user{place[0]}", [*documents[place], *write.words(20)])


def pause(write: Writer, length: int = 150) -> Iterator[Ask]:
    """One with six documents is away for twice as long as they are there, again and again."""
    own = write.texts(6, 300)
    for number, ask in enumerate(talks(write, 20, 8)):
        if number // length % 3 == 0 and number % 5 == 0:
            yield Ask("back", write.random.choice(own))
        else:
            yield ask


def long_pause(write: Writer) -> Iterator[Ask]:
    """The same, for longer than the window."""
    return pause(write, 1_100)


def weights(write: Writer, rates: tuple[int, int, int] = (1, 2, 4)) -> Iterator[Ask]:
    """Three users with weights 1, 2, 4 who ask so much, too, for 80 documents each."""
    documents, draw = [write.texts(80, 300) for _ in range(3)], write.zipf(80, 0.9)
    while True:
        user = write.random.choices(range(3), rates)[0]
        yield Ask(("one", "two", "four")[user], documents[user][draw()])


def equal_weights(write: Writer) -> Iterator[Ask]:
    """The same weights, but all ask equally much."""
    return weights(write, (1, 1, 1))


def twice(write: Writer, accounts: int = 1, others: float = 0.04) -> Iterator[Ask]:
    """An attacker asks for everything twice; another user seldom asks for five documents."""
    own, last = write.texts(5, 200), None
    while True:
        if write.chance(others):
            yield Ask("small", write.random.choice(own))
        elif last is not None:
            yield last
            last = None
        else:
            last = Ask(f"attacker{write.random.randrange(accounts)}", write.words(300))
            yield last


def twice_by_many(write: Writer) -> Iterator[Ask]:
    """The same from twenty accounts."""
    return twice(write, 20)


@dataclass(frozen=True)
class Mix:
    """``noisy``: somebody wants all memory there is; ``small`` is who should not suffer."""

    name: str
    asks: Callable[[Writer], Iterator[Ask]]
    noisy: bool = False
    weights: Mapping[str, float] = field(default_factory=dict)


_WEIGHTS = {"one": 1.0, "two": 2.0, "four": 4.0}
MIXES = (
    Mix("crowd", crowd),
    Mix("crowd and teams", crowd_and_teams),
    Mix("scans", scans, noisy=True),
    Mix("many scans", many_scans),
    Mix("loops", loops, noisy=True),
    Mix("conversations", talks),
    Mix("two turns", short_talks),
    Mix("three turns", three_turns),
    Mix("two turns and one", short_talks_and_one),
    Mix("growers", growers, noisy=True),
    Mix("zipf", zipf),
    Mix("pause", pause),
    Mix("long pause", long_pause),
    Mix("weights", weights, weights=_WEIGHTS),
    Mix("equal rates", equal_weights, weights=_WEIGHTS),
    Mix("twice", twice, noisy=True),
    Mix("twice by many", twice_by_many),
)
