"""Was this prompt, of which the whole is guessed, said by somebody else?

Every probe is of a prompt of its own: asking leaves a copy in the asker's name, so a second
probe of the same guess would find that. Hits and misses are of one length and come in random
order, so that nothing but the cache can tell them apart.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from serving.client import Answer, Prompt
from serving.separation import Separation, separation

from attacks.scenario import ACCOUNTS, ATTACKER, HOT, VICTIMS, Scenario

GROUP = 8  # secrets that are said before they are probed
BATCH = 100  # guesses to a request where only the count is looked at
HOST_TOKENS = 256  # of a prompt that is to be found in host memory
HOARDER = "victim-of-much"  # whose prompts they are
OWNER_PROBES = 4


@dataclass
class Probes:
    """Answers to right guesses and to wrong ones."""

    hot: list[Answer] = field(default_factory=list)
    cold: list[Answer] = field(default_factory=list)

    def add(self, kind: bool, answer: Answer) -> None:
        (self.hot if kind is HOT else self.cold).append(answer)

    def by_time(self, family: int = 1) -> Separation:
        return self._separation(lambda answer: -answer.ttft, family)

    def by_count(self, family: int = 1) -> Separation:
        return self._separation(lambda answer: answer.cached, family)

    def _separation(self, score: Callable[[Answer], float], family: int) -> Separation:
        hot, cold = ([score(answer) for answer in each] for each in (self.hot, self.cold))
        return separation(hot, cold, family=family)


async def by_length(scenario: Scenario) -> dict[int, Probes]:
    """Timed probes for each length of prefix, by one account."""
    return {
        length: await timed(scenario, length, n) for length, n in scenario.effort.probes.items()
    }


async def timed(scenario: Scenario, length: int, wanted: int, *, said: bool = True) -> Probes:
    """``wanted`` right guesses, and as many wrong ones; all are right guesses of nothing where
    nobody ``said`` them."""
    probes = Probes()
    while len(probes.hot) < wanted:
        group = min(GROUP, wanted - len(probes.hot))
        hot = [scenario.prompts.fresh(length + 1) for _ in range(group)]
        cold = [scenario.prompts.fresh(length + 1) for _ in range(group)]
        if said:
            await scenario.victims_say(hot)
        for kind, guess in scenario.shuffled(hot, cold):
            probes.add(kind, await scenario.client.ask(guess, ATTACKER))
            scenario.step()
    return probes


@dataclass
class Trials:
    """``confirmed``: right guesses for which the attacker was told a cached token; ``false``:
    wrong ones. ``owner_hits``: of the right ones, how many the victim still found, out of
    ``owner_asked``: a proof that there was something to be found."""

    length: int
    accounts: int
    hot: list[int]
    cold: list[int]
    owner_hits: int
    owner_asked: int

    @property
    def confirmed(self) -> int:
        return sum(cached > 0 for cached in self.hot)

    @property
    def false(self) -> int:
        return sum(cached > 0 for cached in self.cold)


async def counted(scenario: Scenario, length: int, wanted: int, accounts: int) -> Trials:
    """Guesses of which only ``cached_tokens`` is read, spread over some accounts."""
    result = Trials(length, accounts, [], [], 0, 0)
    while len(result.hot) < wanted:
        group = min(BATCH, wanted - len(result.hot))
        hot = [scenario.prompts.fresh(length + 1) for _ in range(group)]
        cold = [scenario.prompts.fresh(length + 1) for _ in range(max(2, group // 4))]
        await scenario.victims_say(hot)
        guesses = scenario.shuffled(hot, cold)
        askers = [ACCOUNTS[number % accounts] for number in range(len(guesses))]
        cached = await scenario.client.cached([prompt for _, prompt in guesses], askers)
        for (kind, _), tokens in zip(guesses, cached, strict=True):
            (result.hot if kind is HOT else result.cold).append(tokens)
        again = await scenario.client.cached(hot[:4], VICTIMS[: len(hot[:4])])
        result.owner_hits += sum(tokens >= length for tokens in again)
        result.owner_asked += len(again)
        scenario.step()
    return result


async def chat(scenario: Scenario) -> Trials:
    """Guesses of chat messages: the front end sends token ids on, not text, and the first
    tokens are the template's."""
    template = 2  # tokens that every conversation begins with
    result = Trials(64, 1, [], [], 0, 0)
    hot = [scenario.prompts.text(64) for _ in range(scenario.effort.chats)]
    cold = [scenario.prompts.text(64) for _ in range(scenario.effort.chats)]
    for number, text in enumerate(hot):
        await scenario.client.chat(text, VICTIMS[number % len(VICTIMS)])
    for kind, guess in scenario.shuffled(hot, cold):
        assert isinstance(guess, str)
        cached = await scenario.client.chat(guess, ATTACKER)
        # Letters that two random texts have in common by chance are not the victim's words.
        told = cached if cached > template + 8 else 0
        (result.hot if kind is HOT else result.cold).append(told)
        scenario.step()
    for number, text in enumerate(hot[:4]):
        result.owner_hits += await scenario.client.chat(text, VICTIMS[number]) > template + 8
        result.owner_asked += 1
    return result


@dataclass
class HostTier:
    """``from_host``: tokens that right guesses got out of host memory; ``owner_from_host``:
    what the victim got there, asking afterwards for prompts that were not probed."""

    probes: Probes
    from_host: int
    owner_from_host: int


async def from_host(scenario: Scenario, device_tokens: int) -> HostTier:
    """The victims' prompts have left the device when the attacker guesses them."""
    wanted = scenario.effort.host_probes
    # More than are probed: the attacker's copy could be what the victim gets back.
    secrets = [scenario.prompts.fresh(HOST_TOKENS + 1) for _ in range(wanted + OWNER_PROBES)]
    await scenario.client.cached(secrets, [HOARDER] * len(secrets))
    await _push_out(scenario, device_tokens)
    probes = Probes()
    cold: Sequence[Prompt] = [scenario.prompts.fresh(HOST_TOKENS + 1) for _ in range(wanted)]
    for kind, guess in scenario.shuffled(secrets[:wanted], cold):
        probes.add(kind, await scenario.client.ask(guess, ATTACKER))
        scenario.step()
    owner = sum([(await scenario.client.ask(each, HOARDER)).from_host for each in secrets[wanted:]])
    return HostTier(probes, sum(answer.from_host for answer in probes.hot), owner)


async def _push_out(scenario: Scenario, device_tokens: int) -> None:
    """Fill the device with others' prompts: of many users, each of whom has less than the victim,
    so that also a cache that evicts by share evicts the victim first."""
    prompts = [scenario.prompts.fresh(HOST_TOKENS) for _ in range(device_tokens // HOST_TOKENS)]
    for start in range(0, len(prompts), 16):
        group = prompts[start : start + 16]
        await scenario.client.cached(group, [f"passer-{start + n}" for n in range(len(group))])
        scenario.step()
