"""The attacker names the victim: it must work where names are only claimed, which proves that
the attack is one, and fail where they are bound to keys."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from serving.connection import Refused

from attacks.scenario import ATTACKER, Scenario

BOUND_VICTIM, VICTIM_KEY = "bound-victim", "sk-of-the-victim"
BOUND_ATTACKER, ATTACKER_KEY = "bound-mallory", "sk-of-mallory"
FREE_VICTIM = "free-victim"
SALT = "salt-of-the-victim"
TOKENS = 64
TRIES = 4

CONFIG = f"""\
require_key = false

[users.{BOUND_VICTIM}]
keys = ["{VICTIM_KEY}"]

[users.{BOUND_ATTACKER}]
keys = ["{ATTACKER_KEY}"]
"""


def write_config(folder: Path) -> Path:
    """The server's --tenant-config: two users hold keys, all others are whom they say they are."""
    path = folder / "tenants.toml"
    path.write_text(CONFIG)
    return path


@dataclass(frozen=True)
class Forgery:
    """``works``: of ``TRIES`` prompts of the victim, how many the forger found in the cache."""

    claim: str
    bound: bool
    tries: int
    works: int
    refused: int


async def forge(scenario: Scenario) -> list[Forgery]:
    if not scenario.mode.has_owners:
        return [await _attempt(scenario, "the victim's salt, in the body", None, None, SALT)]
    free = await _attempt(scenario, "a name without a key", FREE_VICTIM, None, None)
    if not scenario.keyed:
        return [free]
    return [
        free,
        await _attempt(scenario, "the name of one who has a key, no key", BOUND_VICTIM, None, None),
        await _attempt(
            scenario,
            "the name of one who has a key, another's key",
            BOUND_VICTIM,
            ATTACKER_KEY,
            None,
        ),
    ]


async def _attempt(
    scenario: Scenario, claim: str, victim: str | None, key: str | None, salt: str | None
) -> Forgery:
    bound = victim == BOUND_VICTIM
    own_salt: dict[str, Any] = {} if salt is None else {"extra_key": salt}
    works = refused = 0
    for _ in range(TRIES):
        prompt = scenario.prompts.fresh(TOKENS + 1)
        await scenario.client.ask(
            prompt, victim, headers=_bearer(VICTIM_KEY if bound else None), **own_salt
        )
        try:
            name = ATTACKER if salt is not None else victim
            answer = await scenario.client.ask(prompt, name, headers=_bearer(key), **own_salt)
        except Refused as error:
            if error.status not in (401, 403):
                raise
            refused += 1
        else:
            works += answer.cached >= TOKENS
        scenario.step()
    return Forgery(claim, bound, TRIES, works, refused)


def _bearer(key: str | None) -> dict[str, str]:
    return {} if key is None else {"Authorization": f"Bearer {key}"}
