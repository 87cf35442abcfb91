"""Many users at once: prefixes that become public and cease to be while others run on them."""

from __future__ import annotations

import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from support.asks import Asker, sampling
from support.prompts import fresh_prompt, fresh_user


@dataclass(frozen=True)
class Exchange:
    """What somebody asked and what the server answered."""

    prompt: str
    reply: dict[str, Any]

    @property
    def from_host(self) -> int:
        return int((self.reply["meta_info"]["cached_tokens_details"] or {}).get("host") or 0)


@dataclass
class _User:
    name: str | None
    talk: str
    scope: str | None


@dataclass(frozen=True)
class _Ask:
    user: _User
    prompt: str
    tokens: int

    def send(self, asker: Asker) -> dict[str, Any]:
        body = {"user_id": self.user.name, "cache_scope": self.user.scope}
        options = sampling(self.tokens)
        return dict(asker.generate(text=self.prompt, **body, sampling_params=options))


def storm(
    asker: Asker,
    seed: int,
    pool: int,
    *,
    users: int = 12,
    meanwhile: Callable[[list[str]], object] = lambda users: None,
) -> list[Exchange]:
    """Six rounds; in each every user sends one request, all at once.

    Conversations go on below one of two documents, with other users' words in them; outputs
    differ in length, so requests end while others are admitted. Every other round somebody asks
    for all that the device can hold (``pool`` tokens), so that the next finds the host. The last
    surely does: one who shares nothing comes back, alone. ``meanwhile``: called in each round with
    the users who are being served.
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
            asks.append(_Ask(user, user.talk, rng.randrange(1, 60)))
        asks += [_Ask(crowd[1], document, 2)] * 6  # the same again and again
        if number % 2:
            asks.append(_flood(pool))
        with ThreadPoolExecutor(len(asks)) as threads:
            jobs = [threads.submit(ask.send, asker) for ask in asks]
            meanwhile([name for name in names if name])
            replies = [job.result() for job in jobs]
        exchanges += map(Exchange, (ask.prompt for ask in asks), replies)
        for user, ask, reply in zip(crowd, asks, replies, strict=False):
            user.talk = ask.prompt + reply["text"]
    comes_back = _Ask(_User(fresh_user(), "", None), fresh_prompt(200), 20)
    for ask in (comes_back, _flood(pool), comes_back):
        exchanges.append(Exchange(ask.prompt, ask.send(asker)))
    return exchanges


def _flood(pool: int) -> _Ask:
    return _Ask(_User(fresh_user("noisy"), "", None), fresh_prompt(pool - 60), 2)


def _tail(rng: random.Random, crowd: list[_User]) -> str:
    other = rng.choice(crowd).talk
    return other[-40:] + fresh_prompt(rng.randrange(1, 120))
