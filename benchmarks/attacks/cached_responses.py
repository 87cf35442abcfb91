"""Is somebody else answered from the response cache, or can they feel what is kept there?

A victim asks; then an attacker asks the same, among as many requests that nobody asked. The server
is one of its own: elsewhere the victims' own requests, at temperature 0, would be hits.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from serving.completions import Completion, CompletionsClient
from serving.prompts import Prompts
from serving.separation import Separation, separation

from attacks.forgery import ATTACKER_KEY, BOUND_VICTIM, CONFIG, FREE_VICTIM, VICTIM_KEY

HEADER = "X-User"  # in which a gateway names users, and nobody else
GROUP = 8  # requests of the victim's before they are guessed
TOKENS = 200  # of a prompt
ANSWER, LONG_ANSWER = 1, 32  # tokens; the long one is still being computed when it is guessed
BEGIN_SECONDS = 60.0
SETTINGS = (
    *("--tenant-response-cache", str(64 << 20), "--tenant-header", HEADER),
    *("--log-level", "warning"),
)


@dataclass(frozen=True)
class Asker:
    """Who asks: ``headers``, and ``fields`` of the body."""

    headers: Mapping[str, str] = field(default_factory=dict)
    fields: Mapping[str, Any] = field(default_factory=dict)


def holder_of(key: str, header: str | None = None, **fields: str) -> Asker:
    named = {} if header is None else {HEADER: header}
    return Asker({"Authorization": f"Bearer {key}"} | named, fields)


VICTIM, MALLORY = holder_of(VICTIM_KEY), holder_of(ATTACKER_KEY)


@dataclass(frozen=True)
class Attack:
    """``headers``, ``fields``: of both requests. ``under_way``: the attacker asks before the victim
    has the answer. ``works``: nothing binds the victim's name, so the attack must succeed."""

    name: str
    attacker: Asker
    victim: Asker = VICTIM
    headers: Mapping[str, str] = field(default_factory=dict)
    fields: Mapping[str, Any] = field(default_factory=dict)
    under_way: bool = False
    works: bool = False

    def body(self, prompt: list[int]) -> dict[str, Any]:
        tokens = LONG_ANSWER if self.under_way else ANSWER
        limits = {"max_tokens": tokens, "temperature": 0, "ignore_eos": True}
        return {"model": "default", "prompt": prompt, **limits, **self.fields}


_FREE = Asker(fields={"user_id": FREE_VICTIM})
_STREAM = {"stream": True, "stream_options": {"include_usage": True}}

ATTACKS = (
    Attack("another key", MALLORY),
    Attack("a stream", MALLORY, fields=_STREAM),
    Attack(
        "sampled, max-age",
        MALLORY,
        headers={"Cache-Control": "max-age=3600"},
        fields={"temperature": 1},
    ),
    Attack("while it is computed", MALLORY, fields=_STREAM, under_way=True),
    Attack("victim in user", holder_of(ATTACKER_KEY, user=BOUND_VICTIM)),
    Attack("victim in user_id", holder_of(ATTACKER_KEY, user_id=BOUND_VICTIM)),
    Attack("victim in the header", holder_of(ATTACKER_KEY, header=BOUND_VICTIM)),
    Attack("no key", Asker()),
    Attack("no key, victim in user_id", Asker(fields={"user_id": BOUND_VICTIM})),
    Attack("no key, victim in the header", Asker(headers={HEADER: BOUND_VICTIM})),
    Attack("a name without a key", _FREE, _FREE, works=True),
)


def flags(folder: Path) -> tuple[str, ...]:
    """Return the server's flags, with a file of keys: of two users, and of a gateway, which alone
    may name users in ``HEADER``."""
    path = folder / "keys.toml"
    path.write_text(f'{CONFIG}\n[gateway]\nkeys = ["sk-of-the-gateway"]\n')
    return (*SETTINGS, "--tenant-config", str(path))


@dataclass
class Guesses:
    """Answers to the attacker's ``right`` and ``wrong`` guesses; to the victim's ``first`` and
    second (``again``) requests for what was guessed right, or was under way."""

    right: list[Completion] = field(default_factory=list)
    wrong: list[Completion] = field(default_factory=list)
    first: list[Completion] = field(default_factory=list)
    again: list[Completion] = field(default_factory=list)

    def add(self, is_right: bool, answer: Completion) -> None:
        (self.right if is_right else self.wrong).append(answer)

    def told(self, answers: list[Completion]) -> int:
        """Count answers that have something of the victim's, or say that they have."""
        ids = {each.id for each in (*self.first, *self.again)} - {None}
        return sum(
            each.is_hit or (each.age or "0") != "0" or each.cached > 0 or each.id in ids
            for each in answers
        )

    @property
    def found_again(self) -> int:
        """How many second requests of the victim's were given the first one's answer."""
        pairs = zip(self.first, self.again, strict=True)
        return sum(again.is_hit and again.id == first.id for first, again in pairs)


@dataclass
class Scene:
    """A server and who asks it. ``step`` is called after each group of guesses."""

    client: CompletionsClient
    prompts: Prompts
    step: Callable[[int], object] = lambda guesses: None

    async def ask(
        self, attack: Attack, who: Asker, prompt: list[int], begun: asyncio.Event | None = None
    ) -> Completion:
        body = {**attack.body(prompt), **who.fields}
        return await self.client.ask(body, {**attack.headers, **who.headers}, begun=begun)

    def fresh(self, number: int) -> list[list[int]]:
        return [self.prompts.fresh(TOKENS) for _ in range(number)]


async def attack_responses(scene: Scene, wanted: int) -> dict[str, Any]:
    """Run all attacks, with ``wanted`` right guesses and as many wrong ones in each."""
    await _warm_up(scene)
    timed = sum(not attack.works for attack in ATTACKS)
    return {
        attack.name: figures(attack, await guess(scene, attack, wanted), timed)
        for attack in ATTACKS
    }


async def _warm_up(scene: Scene) -> None:
    """Ask in each form once: the first answer of each pays for what later ones find ready."""
    for attack in ATTACKS:
        (prompt,) = scene.fresh(1)
        for who in (attack.victim, attack.attacker, attack.victim):
            await scene.ask(attack, who, prompt)


async def guess(scene: Scene, attack: Attack, wanted: int) -> Guesses:
    """Guess right and wrong in random order, each time something new."""
    guesses = Guesses()
    while len(guesses.right) < wanted:
        number = min(GROUP, wanted - len(guesses.right))
        right, wrong = scene.fresh(number), scene.fresh(number)
        order = [(True, prompt) for prompt in right] + [(False, prompt) for prompt in wrong]
        scene.prompts.random.shuffle(order)
        if attack.under_way:
            for is_right, prompt in order:
                await _guess_under_way(scene, attack, guesses, is_right, prompt)
        else:
            guesses.first += [await scene.ask(attack, attack.victim, each) for each in right]
            for is_right, prompt in order:
                guesses.add(is_right, await scene.ask(attack, attack.attacker, prompt))
            guesses.again += [await scene.ask(attack, attack.victim, each) for each in right]
        scene.step(2 * number)
    return guesses


async def _guess_under_way(
    scene: Scene, attack: Attack, guesses: Guesses, is_right: bool, prompt: list[int]
) -> None:
    """Guess while the server computes an answer of the victim's: to this prompt, or to another one.

    The victim asks again at the same moment: who shares a computation does so then.
    """
    secret = prompt if is_right else scene.fresh(1)[0]
    begun = asyncio.Event()
    first = asyncio.create_task(scene.ask(attack, attack.victim, secret, begun))
    await asyncio.wait_for(begun.wait(), BEGIN_SECONDS)
    answer, again = await asyncio.gather(
        scene.ask(attack, attack.attacker, prompt), scene.ask(attack, attack.victim, secret)
    )
    guesses.add(is_right, answer)
    guesses.first.append(await first)
    guesses.again.append(again)


def figures(attack: Attack, guesses: Guesses, family: int) -> dict[str, Any]:
    """Return what the guesses of one attack came to. ``family``: timed attacks judged together."""
    right, wrong, first, again = guesses.right, guesses.wrong, guesses.first, guesses.again
    # Who shares a computation comes into the middle of it: that is to be felt beside one's own.
    computed = wrong if attack.under_way else first
    return {
        "works": attack.works,
        "under_way": attack.under_way,
        "guesses": len(right),
        "told": guesses.told(right),
        "false": guesses.told(wrong),
        "alike": Counter(each.looks for each in right) == Counter(each.looks for each in wrong),
        "answers_right": _tally(right),
        "answers_wrong": _tally(wrong),
        "by_time": asdict(_by_time(right, wrong, family)),
        "ms_right": _ms(right),
        "ms_wrong": _ms(wrong),
        "owner_asked": len(first),
        "owner_hits": guesses.found_again,
        # A computation that was joined as a stream has no age yet.
        "owner_joined": sum(each.is_hit and each.age is None for each in again),
        "owner_by_time": asdict(_by_time(again, computed, 1)),
        "ms_first": _ms(first),
        "ms_again": _ms(again),
    }


def _tally(answers: list[Completion]) -> dict[str, int]:
    """Count answers by status and X-Cache."""
    return dict(Counter(f"{each.status} {each.cache or '-'}" for each in answers))


def _by_time(sooner: list[Completion], later: list[Completion], family: int) -> Separation:
    hits, misses = ([-each.seconds for each in answers] for answers in (sooner, later))
    return separation(hits, misses, family=family)


def _ms(answers: list[Completion]) -> list[float]:
    return [round(each.seconds * 1e3, 2) for each in answers]
