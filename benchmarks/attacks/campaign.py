"""Every attack on one server, and what came of it as plain data."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict, replace
from functools import partial
from typing import Any

from serving.separation import separation

from attacks.collusion import FLAGGED, PLAIN, collude
from attacks.collusion_by_votes import SHARPEST, collude_by_votes
from attacks.flagged import share_and_guess
from attacks.forgery import forge
from attacks.membership import Probes, Trials, by_length, chat, counted, from_host, timed
from attacks.monitor import watch
from attacks.queueing import membership
from attacks.recovery import Recovery, recover
from attacks.scenario import ACCOUNTS, Scenario

NULL_LENGTH = 64
HANDS = (1, 2, 3, 4)  # accounts of one attacker
WORD_TOKENS = 4


async def attack(scenario: Scenario, device_tokens: int) -> dict[str, Any]:
    """Run them all, and note the seconds that each took.

    Modes in which content that nobody registered can become public get the most guesses.
    """
    attacks: dict[str, Callable[[], Awaitable[Any]]] = {
        "membership": partial(_membership, scenario),
        "order": partial(_order, scenario),
        "null": partial(_null, scenario),
        "counted": partial(_count, scenario),
        "chat": partial(_chat, scenario),
        "host_tier": partial(_host_tier, scenario, device_tokens),
        "recovery": partial(_recoveries, scenario),
        "flagged": partial(_flagged, scenario),
        "collusion": partial(_collusions, scenario),
        "forgery": partial(_forgeries, scenario),
        "monitor": partial(_monitor, scenario),
    }
    mode = scenario.mode
    results: dict[str, Any] = {
        "about": mode.about,
        "private": mode.private,
        "promotes": mode.promotes,
        "detects": mode.detects,
    }
    seconds = {}
    for name, run in attacks.items():
        started = time.monotonic()
        results[name] = await run()
        seconds[name] = round(time.monotonic() - started, 1)
    return results | {"seconds": seconds}


async def _membership(scenario: Scenario) -> dict[int, Any]:
    probes = await by_length(scenario)
    return {length: _both(each, len(probes)) for length, each in probes.items()}


async def _order(scenario: Scenario) -> dict[int, Any]:
    rounds = scenario.effort.rounds
    return {
        length: asdict(await membership(scenario, length, wanted, len(rounds)))
        for length, wanted in rounds.items()
    }


async def _null(scenario: Scenario) -> dict[str, Any]:
    return _both(await timed(scenario, NULL_LENGTH, scenario.effort.null_probes, said=False), 1)


async def _chat(scenario: Scenario) -> dict[str, Any]:
    return _trials(await chat(scenario))


async def _flagged(scenario: Scenario) -> dict[str, Any] | None:
    if scenario.mode.promotes and not scenario.mode.detects:
        return None  # nothing is sensitive there
    result = await share_and_guess(scenario)
    counts = {name: value for name, value in vars(result).items() if name != "probes"}
    return _both(result.probes, 1) | counts


async def _collusions(scenario: Scenario) -> list[dict[str, Any]]:
    if scenario.mode.window:
        return [asdict(await collude_by_votes(scenario, hands)) for hands in (2, SHARPEST)]
    cases = [(hands, content) for content in (PLAIN, FLAGGED) for hands in HANDS]
    return [asdict(await collude(scenario, hands, content)) for hands, content in cases]


async def _forgeries(scenario: Scenario) -> list[dict[str, Any]]:
    return [asdict(each) for each in await forge(scenario)]


async def _count(scenario: Scenario) -> list[dict[str, Any]]:
    return [
        _trials(await counted(scenario, length, wanted // 2, accounts))
        for length, wanted in scenario.effort.trials.items()
        for accounts in (1, len(ACCOUNTS))
    ]


async def _host_tier(scenario: Scenario, device_tokens: int) -> dict[str, Any]:
    tier = await from_host(scenario, device_tokens)
    return _both(tier.probes, 1) | {
        "from_host": tier.from_host,
        "owner_from_host": tier.owner_from_host,
    }


async def _recoveries(scenario: Scenario) -> list[dict[str, Any]]:
    words = replace(
        scenario, effort=replace(scenario.effort, secrets=max(1, scenario.effort.secrets // 2))
    )
    return [
        _recovery("token by token", await recover(scenario, "cached_tokens")),
        _recovery("token by token", await recover(scenario, "order")),
        _recovery("token by token", await recover(scenario, "ttft")),
        _recovery("word by word", await recover(words, "cached_tokens", piece_tokens=WORD_TOKENS)),
        _recovery("word by word", await recover(words, "order", piece_tokens=WORD_TOKENS)),
        _recovery("word by word", await recover(words, "ttft", piece_tokens=WORD_TOKENS)),
    ]


async def _monitor(scenario: Scenario) -> list[dict[str, Any]]:
    # There must be something public to watch, and a detector can read none of these prompts;
    # upstream is for comparison.
    mode = scenario.mode
    if mode.has_owners and (mode.detects or mode.window or not mode.promotes):
        return []
    return [asdict(window) for window in await watch(scenario)]


def _both(probes: Probes, family: int) -> dict[str, Any]:
    return {
        "by_time": asdict(probes.by_time(family)),
        "by_count": asdict(probes.by_count(family)),
        "ms_hit": [round(answer.ttft * 1e3, 2) for answer in probes.hot],
        "ms_miss": [round(answer.ttft * 1e3, 2) for answer in probes.cold],
    }


def _trials(trials: Trials) -> dict[str, Any]:
    return {
        "length": trials.length,
        "accounts": trials.accounts,
        "right_guesses": len(trials.hot),
        "confirmed": trials.confirmed,
        "wrong_guesses": len(trials.cold),
        "false": trials.false,
        "owner_asked": trials.owner_asked,
        "owner_hits": trials.owner_hits,
        "by_count": asdict(separation(trials.hot, trials.cold)),
    }


def _recovery(how: str, result: Recovery) -> dict[str, Any]:
    return {
        "how": how,
        "signal": result.signal,
        "chance": result.chance,
        "secrets": result.secrets,
        "whole": result.whole,
        "places": result.places,
        "found": result.found,
        "share": result.share,
        "by_luck": result.by_luck,
        "requests": result.requests,
        "requests_per_token": result.requests_per_token,
        "separation": asdict(result.separation) if result.wrong and result.right else None,
    }
