"""Ordinary users, who should not be taken for probers: the workloads of ``workloads/made_up.py``,
small and behind a chat template, and what else few users do much."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from workloads.made_up import WORKLOADS, make
from workloads.request import PASSES, Size

SEED = 23
# What a chat template writes before every prompt: all requests of a server pass this node.
HEADER = tuple(range(1, 9))
SCALE = 0.1  # of the prompts' lengths: what counts is hits and users
NAMES = tuple(WORKLOADS)
# Users, and the exponent of the Zipf law by which they ask: with 1.4 few of them ask most.
TEAMS = tuple((users, 1.4) for users in (3, 5, 10, 20))
LARGE_POPULATIONS = tuple((users, zipf) for users in (50, 200, 2_000) for zipf in (1.0, 1.4))
JOBS = (32, 48, 64, 96, 128, 192, 256, 384, 512, 768)  # requests

_OF_JOBS = 1_000_000  # token numbers that no other prompt has


@dataclass(frozen=True)
class Asked:
    user: str
    prompt: tuple[int, ...]


def ordinary(name: str, users: int, zipf: float, requests: int) -> list[Asked]:
    """One workload of ``made_up.py``, in order of arrival."""
    size = Size(requests=-(-requests // PASSES), users=users, zipf=zipf, scale=SCALE)
    made = make(name, size, SEED)[:requests]
    return [Asked(request.user, (*HEADER, *request.prompt)) for request in made]


def new_documents(users: int, requests: int, each: int = 128) -> list[Asked]:
    """As "documents", but each of them is read for so many requests, and then never again."""
    made = ordinary("documents", users, 1.4, requests)
    number = len(HEADER)
    return [
        Asked(ask.user, (*HEADER, _OF_JOBS + at // each, *ask.prompt[number:]))
        for at, ask in enumerate(made)
    ]


def jobs(sizes: Sequence[int] = JOBS) -> list[Asked]:
    """Jobs of one user each, among ordinary requests of 200: so many requests, all with one
    prompt that others have made public."""
    others = iter(ordinary("system prompts", 200, 1.0, sum(sizes)))
    asked = []
    for job, size in enumerate(sizes):
        start = _OF_JOBS * (job + 2)
        prompt = (*HEADER, *range(start, start + 40))
        asked += [Asked(f"reader-{n}", (*prompt, start + 100 + n)) for n in range(3)]
        for number in range(size):
            asked.append(Asked(f"user-{job}", (*prompt, start + 1_000 + number)))
            asked.append(next(others))
    return asked


def night(users: int, requests: int) -> list[Asked]:
    """A team reads documents; then a job of one of them runs alone, longer than the window;
    then the others are back."""
    day = requests // 4
    made = ordinary("documents", users, 1.4, requests + 2 * day)
    alone = [Asked("user-0", ask.prompt) for ask in made[day:-day]]
    return [*made[:day], *alone, *made[-day:]]
