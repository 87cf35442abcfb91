"""Five workloads of any size, from a fixed seed.

In the first four, users share something long and add something of their own; in the last, they
share nothing. Conversations grow: a turn is sent with all that went before.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from serving.prompts import FIRST_TOKEN
from serving.server import VOCABULARY

from workloads.request import PASSES, Request, Size, Zipf

REPLY = 16  # tokens of an earlier reply, sent along


class Writer:
    """Draws users and moments, and makes up tokens."""

    def __init__(self, size: Size, seed: str) -> None:
        self.size = size
        self.random = random.Random(seed)
        self._users = Zipf(size.users, size.zipf, self.random)
        self._now = 0.0
        self._talks: dict[str, list[int]] = {}

    def words(self, count: int) -> list[int]:
        tokens = self.size.tokens(count)
        return [self.random.randrange(FIRST_TOKEN, VOCABULARY) for _ in range(tokens)]

    def shelf(self, titles: int, tokens: int, zipf: float = 0.6) -> Callable[[], list[int]]:
        """Draw from some texts, of which a few are read most."""
        texts = [self.words(tokens) for _ in range(titles)]
        popular = Zipf(titles, zipf, self.random)
        return lambda: texts[popular.draw()]

    def request(self, prompt: Callable[[str], list[int]]) -> Request:
        self._now += self.random.expovariate(self.size.rate)
        user = f"user-{self._users.draw()}"
        return Request(self._now, user, prompt(user), self.size.output)

    def turn(self, user: str, opening: Callable[[], list[int]], tokens: int) -> list[int]:
        """A conversation's next prompt; it starts anew where it has become long."""
        talk = self._talks.get(user)
        if talk is None or len(talk) > self.size.tokens(1_200):
            talk = opening()
        prompt = [*talk, *self.words(tokens)]
        self._talks[user] = [*prompt, *self.words(REPLY)]
        return prompt


def system_prompts(writer: Writer) -> Callable[[str], list[int]]:
    """Three applications with a system prompt each, and one private turn behind it."""
    systems = writer.shelf(3, 448)
    return lambda user: [*systems(), *writer.words(48)]


def agents(writer: Writer) -> Callable[[str], list[int]]:
    """One long list of tools; each agent goes on from step to step."""
    tools = writer.words(512)
    return lambda user: writer.turn(user, lambda: tools, 48)


def documents(writer: Writer) -> Callable[[str], list[int]]:
    """Long documents that everybody reads, and private questions."""
    texts = writer.shelf(3, 640)
    return lambda user: [*texts(), *writer.words(32)]


def few_shot(writer: Writer) -> Callable[[str], list[int]]:
    """Templates of worked examples, and one private case behind them."""
    templates = writer.shelf(4, 384)
    return lambda user: [*templates(), *writer.words(24)]


def chat(writer: Writer) -> Callable[[str], list[int]]:
    """Conversations that share nothing."""
    return lambda user: writer.turn(user, list, 96)


WORKLOADS: dict[str, Callable[[Writer], Callable[[str], list[int]]]] = {
    "system prompts": system_prompts,
    "agents": agents,
    "documents": documents,
    "few-shot": few_shot,
    "private chat": chat,
}
SHARING = ("system prompts", "agents", "documents", "few-shot")


def make(name: str, size: Size, seed: int) -> list[Request]:
    """The requests of all passes, in order of arrival."""
    writer = Writer(size, f"{seed} {name}")
    prompt = WORKLOADS[name](writer)
    return [writer.request(prompt) for _ in range(PASSES * size.requests)]
