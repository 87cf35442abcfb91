"""Colluding accounts.

What enough users hold, and nobody found sensitive, is public in selective mode: that is its
rule. So an attacker with as many accounts as the threshold can plant a guess under all but one
of them, and ask with the last: the victim's copy is what makes the number full. This measures at
how many accounts that begins, and whether content that is found sensitive is safe from it.
"""

from __future__ import annotations

from dataclasses import dataclass

from serving.client import Prompt

from attacks.scenario import ACCOUNTS, VICTIMS, Scenario

PLAIN, FLAGGED = "plain", "flagged"
HEAD = 16
LETTERS = 176  # a detector leaves the end of a prompt open, so it must be some way off


@dataclass(frozen=True)
class Collusion:
    """``confirmed`` of ``guesses`` right guesses, ``false`` of as many wrong ones."""

    accounts: int
    content: str
    guesses: int
    confirmed: int
    false: int


async def collude(scenario: Scenario, accounts: int, content: str) -> Collusion:
    """All accounts but one plant each guess; the last one asks."""
    wanted = scenario.effort.collusions
    hot = [_secret(scenario, content) for _ in range(wanted)]
    cold = [_secret(scenario, content) for _ in range(wanted)]
    for number, secret in enumerate(hot):
        await scenario.client.cached([secret], [VICTIMS[number % len(VICTIMS)]])
    # Another set of accounts for each number of them: those of before hold nothing of this.
    hands = [f"{account}-of-{accounts}-{content}" for account in ACCOUNTS[:accounts]]
    told = {True: 0, False: 0}
    for kind, guess in scenario.shuffled(hot, cold):
        for hand in hands[:-1]:
            await scenario.client.cached([guess], [hand])
        await scenario.settle()
        # What the attacker planted alone makes nothing public before it is the threshold itself.
        cached = (await scenario.client.cached([guess], [hands[-1]]))[0]
        told[kind] += cached > len(guess) // 2
        scenario.step()
    return Collusion(accounts, content, wanted, told[True], told[False])


def _secret(scenario: Scenario, content: str) -> Prompt:
    """Text: a detector reads nothing else. The random head keeps prompts apart."""
    opening = scenario.prompts.text(HEAD) + " "
    if content == FLAGGED:
        opening += f"my card number is {scenario.prompts.card()}, "
    return opening + scenario.prompts.text(LETTERS - len(opening))
