"""Colluding accounts where users vote for what becomes public.

In one voting window each account asks in two ways for each guess, and so does the victim, who holds
the right ones. When the window has ended an account that was not there looks. With ``SHARPEST``
accounts one vote more matters most. benchmarks/collusion.py tries more, thousands of times.
"""

from __future__ import annotations

from attacks.collusion import PLAIN, Collusion
from attacks.scenario import Scenario
from sglang.srt.tenancy.cache.core.vote_threshold import VoteThreshold
from sglang.srt.tenancy.flags import TenantOptions

TOKENS = 24
BATCH = 64  # prompts sent at once
GUESSES = 10  # for each that is tried where users are counted

THRESHOLD = VoteThreshold(
    TenantOptions.tenant_dp_epsilon / TenantOptions.tenant_dp_votes,
    TenantOptions.tenant_dp_delta / TenantOptions.tenant_dp_votes,
    TenantOptions.tenant_public_users,
)
SHARPEST = int(THRESHOLD.median) - 1


async def collude_by_votes(scenario: Scenario, accounts: int) -> Collusion:
    """Right guesses and wrong ones, side by side in one window. Each account and victim is another
    for each guess: nobody has votes for two."""
    wanted = GUESSES * scenario.effort.collusions
    hot, cold = ([scenario.prompts.fresh(TOKENS) for _ in range(wanted)] for _ in range(2))
    guesses = scenario.shuffled(hot, cold)
    asked: list[tuple[str, list[int]]] = []
    for number, (right, guess) in enumerate(guesses):
        victims = guess if right else scenario.prompts.fresh(TOKENS)
        asked += _in_two_ways(scenario, f"victim-{accounts}-{number}", victims)
        for hand in range(accounts):
            asked += _in_two_ways(scenario, f"mallory-{accounts}-{number}-{hand}", guess)
    await _end_window(scenario)
    await _ask(scenario, asked)
    await _end_window(scenario)
    told = {True: 0, False: 0}
    for right, guess in guesses:
        prompt = [*guess, *scenario.prompts.tail(2)]
        found = await scenario.client.cached([prompt], ["mallory-looks"], cache_scope="none")
        told[right] += found[0] > TOKENS // 2
    scenario.step()
    return Collusion(accounts, PLAIN, wanted, told[True], told[False])


def _in_two_ways(scenario: Scenario, user: str, text: list[int]) -> list[tuple[str, list[int]]]:
    return [(user, [*text, *scenario.prompts.tail(2)]) for _ in range(2)]


async def _ask(scenario: Scenario, asked: list[tuple[str, list[int]]]) -> None:
    for at in range(0, len(asked), BATCH):
        users, prompts = zip(*asked[at : at + BATCH], strict=True)
        await scenario.client.cached(prompts, users)


async def _end_window(scenario: Scenario) -> None:
    """Send requests of somebody else until votes are counted."""
    stats = await scenario.client.tenant_stats()
    assert stats is not None, "where users vote, operators see how many requests were admitted"
    left = -stats["replicas"][0]["admitted"] % scenario.mode.window
    await _ask(scenario, [("filler", scenario.prompts.tail(2)) for _ in range(left)])
