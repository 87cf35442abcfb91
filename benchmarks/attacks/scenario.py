"""One server, its victims, and one attacker with several accounts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from serving.client import Client, Prompt
from serving.prompts import Prompts
from serving.server import Mode

VICTIMS = tuple(f"victim-{number}" for number in range(8))
ATTACKER = "mallory"
ACCOUNTS = (ATTACKER, *(f"mallory-{number}" for number in range(1, 8)))

LENGTHS = (1, 8, 64, 512)  # tokens of a prefix

HOT, COLD = True, False

P = TypeVar("P", bound=Prompt)


@dataclass(frozen=True)
class Effort:
    """How much is tried.

    ``probes``: of each kind (hit, miss), timed one by one, for each of ``LENGTHS``.
    ``trials``: guesses of each length that are only counted, sent in batches.
    ``secrets``: how many are to be recovered, by each signal; ``symbols``: of one of them.
    ``windows``: of the monitor's watch. ``rounds``: of guesses of each length that queue
    together. ``flagged``: guesses of each kind at what a detector must find, timed one by one.
    """

    probes: dict[int, int]
    trials: dict[int, int]
    null_probes: int
    secrets: int
    symbols: int
    host_probes: int
    collusions: int
    windows: int
    chats: int
    rounds: dict[int, int]
    flagged: int

    def halved(self) -> Effort:
        """For modes that are there for comparison."""
        return replace(
            self,
            probes={length: max(min(n, 16), n // 2) for length, n in self.probes.items()},
            rounds={length: -(-n // 2) for length, n in self.rounds.items()},
            trials={length: n // 4 for length, n in self.trials.items()},
            null_probes=self.null_probes // 2,
            host_probes=self.host_probes // 2,
            chats=self.chats // 2,
            windows=self.windows // 2,
            secrets=max(1, self.secrets // 2),
            collusions=max(2, self.collusions // 2),
            flagged=self.flagged // 2,
        )


FULL = Effort(
    probes={1: 40, 8: 40, 64: 40, 512: 24},
    trials={1: 300, 8: 1_800, 64: 300},
    null_probes=40,
    secrets=4,
    symbols=4,
    host_probes=12,
    collusions=5,
    windows=11,
    chats=20,
    rounds={1: 4, 8: 4, 64: 4, 512: 2},
    flagged=40,
)
QUICK = Effort(
    probes={8: 8, 64: 12, 512: 6},
    trials={1: 40, 8: 80, 64: 40},
    null_probes=8,
    secrets=1,
    symbols=3,
    host_probes=4,
    collusions=2,
    windows=0,
    chats=4,
    rounds={8: 1, 64: 1, 512: 1},
    flagged=4,
)


@dataclass
class Scenario:
    """``keyed``: the server knows the keys of forgery.CONFIG. ``step`` is called after each
    small piece of work, for a progress bar."""

    client: Client
    prompts: Prompts
    mode: Mode
    effort: Effort
    keyed: bool = False
    step: Callable[[], object] = lambda: None

    async def settle(self) -> None:
        """A patient attacker gives the server's detector the time it needs."""
        if self.mode.detects:
            await self.client.scan_results_are_in()

    async def victims_say(self, secrets: Sequence[Prompt]) -> None:
        """Each secret is one victim's, sent once."""
        owners = [VICTIMS[number % len(VICTIMS)] for number in range(len(secrets))]
        await self.client.cached(secrets, owners)

    def shuffled(self, hot: Sequence[P], cold: Sequence[P]) -> list[tuple[bool, P]]:
        """Guesses that are right and guesses that are wrong, in random order."""
        guesses = [(HOT, prompt) for prompt in hot] + [(COLD, prompt) for prompt in cold]
        self.prompts.random.shuffle(guesses)
        return guesses
