"""Many users at once: prefixes that become public and cease to be while others run on them."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from support.asks import Asker, sampling
from support.prompts import fresh_prompt, fresh_user


@dataclass(frozen=True)
class Exchange:
    """What a user asked and what the server answered."""

    user: str | None
    prompt: str
    reply: dict[str, Any]

    @property
    def cached(self) -> int:
        return int(self.reply["meta_info"]["cached_tokens"])

    @property
    def from_host(self) -> int:
        return int((self.reply["meta_info"]["cached_tokens_details"] or {}).get("host") or 0)


@dataclass
class _User:
    name: str | None
    talk: str
    scope: str | None


def storm(asker: Asker, seed: int, pool: int, *, users: int = 12) -> list[Exchange]:
    """Six rounds; in each every user sends one request, all at once.

    Conversations go on below one of two documents, with other users' words in them; outputs
    differ in length, so requests end while others are admitted. Every other round somebody asks
    for all that the device can hold (``pool`` tokens), so that the next finds the host.
    """
    rng = random.Random(seed)
    documents = [fresh_prompt(rng.randrange(60, 260)) for _ in range(2)]
    names: list[str | None] = [*(fresh_user() for _ in range(users - 1)), None]
    crowd = [_User(name, "", "private" if n == 0 else None) for n, name in enumerate(names)]
    exchanges: list[Exchange] = []
    for number in range(6):
        document = documents[number // 2 % len(documents)]
        asks = []
        for user in crowd:
            if number % 2 == 0:
                user.talk = document
            user.talk += _tail(rng, crowd)
            body = {"user_id": user.name, "cache_scope": user.scope}
            asks.append((user, user.talk, body | {"sampling_params": sampling(rng.randrange(1, 60))}))
        # One asks for the same again and again.
        asks += [(crowd[1], document, {"user_id": crowd[1].name, "sampling_params": sampling(2)})] * 4
        if number % 2:
            noisy = _User(fresh_user("noisy"), fresh_prompt(pool - 60), None)
            asks.append((noisy, noisy.talk, {"user_id": noisy.name, "sampling_params": sampling(2)}))
        with ThreadPoolExecutor(len(asks)) as threads:
            jobs = [(*ask, threads.submit(_ask, asker, *ask[1:])) for ask in asks]
        for user, prompt, _, job in jobs:
            exchanges.append(Exchange(user.name, prompt, job.result()))
        for user, (_, prompt, _, job) in zip(crowd, jobs, strict=False):
            user.talk = prompt + str(job.result()["text"])
    return exchanges


def _tail(rng: random.Random, crowd: list[_User]) -> str:
    other = rng.choice(crowd).talk
    return other[-40:] + fresh_prompt(rng.randrange(1, 120))


def _ask(asker: Asker, prompt: str, body: dict[str, Any]) -> dict[str, Any]:
    return dict(asker.generate(text=prompt, **body))
