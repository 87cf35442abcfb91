"""What a detector finds sensitive, although more users hold it than make content public.

A team's card number behind an opening that everybody knows. Right and wrong guesses have the
same opening and the same length; what the number and all behind it tell is measured.
"""

from __future__ import annotations

from dataclasses import dataclass

from attacks.membership import Probes
from attacks.scenario import ACCOUNTS, HOT, VICTIMS, Scenario

HOLDERS = 4  # users who share it: one more than the threshold
OPENING = 64  # letters that the attacker knows
SECRET = 160  # letters of the number and what is behind it
LUCKY_DIGITS = 8
GROUP = 8


@dataclass(frozen=True)
class Flagged:
    """``confirmed`` of ``guesses`` right guesses: tokens of the secret itself came out of the
    cache. ``false``: of as many wrong ones. ``owner_hits`` of ``owner_asked``: holders who ask
    again find it."""

    probes: Probes
    guesses: int
    confirmed: int
    false: int
    owner_asked: int
    owner_hits: int


@dataclass(frozen=True)
class Team:
    """``held``: what the team says; ``wrong``: the same opening with another number."""

    held: str
    wrong: str

    @property
    def known(self) -> int:
        """Tokens that the attacker knows, and as many digits as two numbers may have in common."""
        return OPENING + len(" card ") + LUCKY_DIGITS


async def share_and_guess(scenario: Scenario) -> Flagged:
    probes, owners = Probes(), [0, 0]
    told = {True: 0, False: 0}
    while len(probes.hot) < scenario.effort.flagged:
        teams = [_team(scenario) for _ in range(GROUP)]
        for holder in VICTIMS[:HOLDERS]:
            await scenario.client.cached([team.held for team in teams], [holder] * GROUP)
        await scenario.settle()
        # One team is asked either rightly or wrongly: a guess leaves a copy in the asker's name.
        half = GROUP // 2
        guesses = scenario.shuffled(
            [team.held for team in teams[:half]], [team.wrong for team in teams[half:]]
        )
        for number, (kind, guess) in enumerate(guesses):
            answer = await scenario.client.ask(guess, ACCOUNTS[number % len(ACCOUNTS)])
            probes.add(kind, answer)
            told[kind is HOT] += answer.cached > teams[0].known
            scenario.step()
        again = (await scenario.client.cached([teams[-1].held], [VICTIMS[0]]))[0]
        owners[0] += 1
        owners[1] += again > teams[0].known
    return Flagged(probes, len(probes.hot), told[True], told[False], *owners)


def _team(scenario: Scenario) -> Team:
    opening = scenario.prompts.text(OPENING) + " card "
    held, wrong = (opening + _secret(scenario) for _ in range(2))
    return Team(held, wrong)


def _secret(scenario: Scenario) -> str:
    secret = scenario.prompts.card() + ", valid until "
    return secret + scenario.prompts.text(SECRET - len(secret))
