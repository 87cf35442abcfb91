"""What every engine is asked: three workloads of any size, from a fixed seed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace

from workloads.request import Request

from engine_speed.chat import Texts, answered, asked, system

CONVERSATION, DOCUMENT, CROWD = "conversation", "one document", "users at once"
LOADS = (CONVERSATION, DOCUMENT, CROWD)

Tokens = Sequence[int]
# The reference: one engine's greedy answer, of so many tokens.
Answering = Callable[[Tokens, int], Awaitable[Sequence[int]]]


@dataclass(frozen=True)
class Extent:
    """How many take part, and how many tokens each text has.

    ``talks`` conversations of ``turns`` turns; ``readers`` of one document; ``crowd`` users
    who ask at once.
    """

    talks: int = 2
    turns: int = 5
    opening: int = 400
    message: int = 120
    readers: int = 8
    document: int = 1_500
    question: int = 60
    crowd: int = 8
    prompt: int = 300
    answer: int = 16

    def scaled(self, factor: float) -> Extent:
        """The same, with shorter texts."""
        names = ("opening", "message", "document", "question", "prompt", "answer")
        return replace(self, **{n: max(4, round(getattr(self, n) * factor)) for n in names})


@dataclass(frozen=True)
class Load:
    """``at_once``: all requests are sent together; else each when the one before is answered.
    ``answers``: what the reference says to each."""

    name: str
    requests: Sequence[Request]
    answers: Sequence[Tokens]
    at_once: bool = False

    @property
    def prompt_tokens(self) -> int:
        return sum(len(request.prompt) for request in self.requests)

    @property
    def output_tokens(self) -> int:
        return sum(request.output for request in self.requests)


async def make(name: str, extent: Extent, seed: int, answer: Answering) -> Load:
    """A workload whose prompts hold what ``answer`` says to earlier ones."""
    texts = Texts(seed + LOADS.index(name))
    if name == CONVERSATION:
        return await _conversations(texts, extent, answer)
    written = {DOCUMENT: _readers, CROWD: _crowd}[name]
    requests = [
        Request(0.0, f"user-{number}", prompt, extent.answer)
        for number, prompt in enumerate(written(texts, extent))
    ]
    answers = [await answer(request.prompt, request.output) for request in requests]
    return Load(name, requests, answers, at_once=name == CROWD)


async def _conversations(texts: Texts, extent: Extent, answer: Answering) -> Load:
    """Each user goes on with all that went before; users take turns."""
    said: list[list[int]] = [[] for _ in range(extent.talks)]
    requests, answers = [], []
    for turn in range(extent.turns):
        for talk in range(extent.talks):
            length = extent.message if turn else extent.opening
            said[talk] += asked(texts.text(length, f"{talk}: {turn}."))
            requests.append(Request(0.0, f"user-{talk}", tuple(said[talk]), extent.answer))
            answers.append(await answer(said[talk], extent.answer))
            said[talk] += answered(answers[-1])
    return Load(CONVERSATION, requests, answers)


def _readers(texts: Texts, extent: Extent) -> list[list[int]]:
    """Each user asks something else about the same document."""
    document = system(texts.text(extent.document, "The document."))
    return [
        [*document, *asked(texts.text(extent.question, f"{reader}:"))]
        for reader in range(extent.readers)
    ]


def _crowd(texts: Texts, extent: Extent) -> list[list[int]]:
    """Prompts of different lengths that share nothing."""
    return [
        asked(texts.text(extent.prompt * (2 + number % 3) // 3, f"{number}:"))
        for number in range(extent.crowd)
    ]
