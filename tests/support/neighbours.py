"""Neighbours who want all the memory there is, and one user who wants little, again and again."""

from __future__ import annotations

import random
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field

from support.engine import Engine, Setting, Task

SMALL = "small"
KINDS = ("scanner", "looper", "grower", "reader", "visitors")
MOST_RUNNING = 2  # requests of neighbours that run while others come and go
LONGEST = 80  # tokens of a neighbour's request
DOCUMENTS = 25  # that all readers read: they become public


@dataclass
class Neighbour:
    """``scanner``: never the same twice. ``looper``: more than fits, round and round.
    ``grower``: conversations. ``reader``: what all readers read, with an end of their own.
    ``visitors``: never the same user twice."""

    name: str
    kind: str
    asked: int = 0
    talk: array[int] = field(default_factory=lambda: array("q"))

    @property
    def user(self) -> str:
        """Who sends the last prompt."""
        return f"{self.name}-{self.asked}" if self.kind == "visitors" else self.name

    def ask(self, rng: random.Random) -> array[int]:
        self.asked += 1
        own = hash_of(self.name)
        if self.kind in ("scanner", "visitors"):
            return tokens(own + self.asked, rng.randrange(10, LONGEST))
        if self.kind == "looper":
            return tokens(own + self.asked % 60, LONGEST - 10)
        if self.kind == "grower":
            if len(self.talk) > LONGEST - 20:
                self.talk = array("q")
            self.talk = self.talk + tokens(own + self.asked, 20)
            return self.talk
        return document(rng.randrange(DOCUMENTS)) + tokens(own + rng.randrange(10), 20)


def hash_of(name: str) -> int:
    return (int.from_bytes(name.encode(), "big") % 1000 + 1) * 1_000_000


def tokens(start: int, number: int) -> array[int]:
    """Different ones for each start."""
    rng = random.Random(start)
    return array("q", [rng.randrange(1 << 30) for _ in range(number)])


def document(number: int) -> array[int]:
    return tokens(number, 50)


class Street:
    """One engine on which the small user's prompts come back after each storm of the others'.

    ``missed``: tokens of ``prompts`` that were not found, since they were asked for again.
    """

    def __init__(self, setting: Setting, prompts: Sequence[array[int]], kinds: Sequence[str]):
        self.engine = Engine(setting)
        self.prompts = prompts
        self.neighbours = [Neighbour(f"{kind}{n}", kind) for n, kind in enumerate(kinds)]
        self.running: list[Task] = []
        self.missed = 0
        self.asked = 0
        for _ in range(2):  # from then on they have been asked for again
            self._visit()
        self.missed = self.asked = 0

    def play(self, rng: random.Random, rounds: int, storm: int) -> None:
        for _ in range(rounds):
            loud = rng.sample(self.neighbours, rng.randrange(1, len(self.neighbours) + 1))
            for _ in range(rng.randrange(storm // 4, storm)):
                self._storm(rng.choice(loud), rng)
            self._visit()
            if self.engine.setting.ours:
                self.engine.check()

    def _visit(self) -> None:
        """All of the small user's prompts, one after the other."""
        page = self.engine.page
        for prompt in self.prompts:
            task = self.engine.new_task(SMALL, prompt)
            reachable = (len(prompt) - 1) // page * page  # the last token is always computed
            self.asked += reachable
            self.missed += reachable - self.engine.peek(task)
            self._run(task)
            self.engine.finish(task)
            self.engine.land(99, 99)

    def _storm(self, neighbour: Neighbour, rng: random.Random) -> None:
        prompt = neighbour.ask(rng)
        task = self.engine.new_task(neighbour.user, prompt)
        self._run(task)
        self.running.append(task)
        while len(self.running) > rng.randrange(MOST_RUNNING + 1):
            self.engine.finish(self.running.pop(0))
        self.engine.land(99, 99)

    def _run(self, task: Task) -> None:
        assert self.engine.admit(task), "there is too little memory for those who run"
        self.engine.step(task)
