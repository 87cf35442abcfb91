"""Learning a secret in a known template, piece by piece, as prompt-peeking attacks do.

"My access code is ______": at each place every candidate is tried behind what is known so far.
The right one finds one piece more in the cache than the others. By the count that is plain; by
time it is the work of a few tokens; by order it is decisive where the server serves the longest
match first: all candidates are sent while it is busy, and the right one comes back first.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from scipy.stats import binomtest
from serving.separation import Separation, separation

from attacks.queueing import by_order
from attacks.scenario import ATTACKER, VICTIMS, Scenario

TEMPLATE = 48  # tokens

Piece = tuple[int, ...]


@dataclass(frozen=True)
class Puzzle:
    """A secret of some pieces, each one of the ``candidates``, behind a known template."""

    template: list[int]
    candidates: list[Piece]
    secret: list[Piece]

    @property
    def prompt(self) -> list[int]:
        return [*self.template, *(token for piece in self.secret for token in piece)]


@dataclass
class Recovery:
    """``places``: pieces that were to be found, ``found`` of them were, and ``whole`` of the
    ``secrets`` without a mistake. ``chance``: what guessing finds of the places."""

    signal: str
    chance: float
    secrets: int = 0
    whole: int = 0
    places: int = 0
    found: int = 0
    tokens_found: int = 0
    requests: int = 0
    right: list[float] = field(default_factory=list)
    wrong: list[float] = field(default_factory=list)

    @property
    def by_luck(self) -> float:
        """The chance that guessing finds as many places as were found, or more."""
        return float(binomtest(self.found, self.places, self.chance, "greater").pvalue)

    @property
    def share(self) -> float:
        return self.found / self.places

    @property
    def requests_per_token(self) -> float | None:
        return self.requests / self.tokens_found if self.tokens_found else None

    @property
    def separation(self) -> Separation:
        """How well one look at the signal tells right candidates from wrong ones."""
        return separation(self.right, self.wrong)

    def note(self, scores: Sequence[tuple[Piece, float]], right: Piece, guess: Piece) -> None:
        self.places += 1
        if guess == right:
            self.found += 1
            self.tokens_found += len(right)
        for piece, score in scores:
            (self.right if piece == right else self.wrong).append(score)


Look = Callable[[Scenario, list[int], list[Piece]], Awaitable[list[tuple[Piece, float]]]]


async def by_count(
    scenario: Scenario, known: list[int], candidates: list[Piece]
) -> list[tuple[Piece, float]]:
    """``cached_tokens`` of each candidate; no further ones once one finds more than is known."""
    scores = []
    for piece in candidates:
        answer = await scenario.client.ask(_guess(scenario, known, piece), ATTACKER)
        scores.append((piece, float(answer.cached)))
        if answer.cached >= len(known) + len(piece):
            break
    return scores


async def by_time(
    scenario: Scenario, known: list[int], candidates: list[Piece]
) -> list[tuple[Piece, float]]:
    """Time to the first token of each candidate, one after the other."""
    return [
        (piece, -(await scenario.client.ask(_guess(scenario, known, piece), ATTACKER)).ttft)
        for piece in candidates
    ]


async def by_place(
    scenario: Scenario, known: list[int], candidates: list[Piece]
) -> list[tuple[Piece, float]]:
    """The order in which candidates come back that waited behind a long request."""
    places = await by_order(scenario, [_guess(scenario, known, piece) for piece in candidates])
    return list(zip(candidates, places, strict=True))


def _guess(scenario: Scenario, known: list[int], piece: Piece) -> list[int]:
    # The last token is always computed: a random one behind the guess, or it would be the guess.
    return [*known, *piece, *scenario.prompts.tail(1)]


LOOKS: dict[str, Look] = {"cached_tokens": by_count, "order": by_place, "ttft": by_time}


async def recover(
    scenario: Scenario, signal: str, *, piece_tokens: int = 1, choices: int = 10
) -> Recovery:
    """Recover ``scenario.effort.secrets`` secrets by one signal alone."""
    result = Recovery(signal, chance=1 / choices)
    for number in range(scenario.effort.secrets):
        puzzle = make_puzzle(scenario, piece_tokens, choices)
        await scenario.client.cached([puzzle.prompt], [VICTIMS[number % len(VICTIMS)]])
        # The attacker's own copy of the template: else the first candidate alone pays for it.
        await scenario.client.cached([[*puzzle.template, *scenario.prompts.tail(1)]], [ATTACKER])
        result.requests += 1
        await _solve(scenario, puzzle, result)
    return result


def make_puzzle(scenario: Scenario, piece_tokens: int, choices: int) -> Puzzle:
    candidates = [tuple(scenario.prompts.tail(piece_tokens)) for _ in range(choices)]
    secret = [scenario.prompts.random.choice(candidates) for _ in range(scenario.effort.symbols)]
    return Puzzle(scenario.prompts.fresh(TEMPLATE), candidates, secret)


async def _solve(scenario: Scenario, puzzle: Puzzle, result: Recovery) -> None:
    """One secret, from its first piece to its last. Behind a mistake nothing can be learned, as
    an attacker would notice; it is told what was right, so that each place is a fair trial."""
    known = list(puzzle.template)
    found_before = result.found
    for right in puzzle.secret:
        order = scenario.prompts.random.sample(puzzle.candidates, len(puzzle.candidates))
        scores = await LOOKS[result.signal](scenario, known, order)
        result.requests += len(scores) + (result.signal == "order")
        best = max(score for _, score in scores)
        guess = scenario.prompts.random.choice([piece for piece, score in scores if score == best])
        result.note(scores, right, guess)
        known += right
        scenario.step()
    result.secrets += 1
    result.whole += result.found - found_before == len(puzzle.secret)
