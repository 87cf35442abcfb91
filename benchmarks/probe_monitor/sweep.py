"""All thresholds, for ordinary users and for probers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from probe_monitor.history import History, prefixes
from probe_monitor.probers import ACCOUNTS, SCENARIOS, attack
from probe_monitor.traffic import (
    LARGE_POPULATIONS,
    NAMES,
    TEAMS,
    Asked,
    jobs,
    new_documents,
    night,
    ordinary,
)
from probe_monitor.watched_cache import DEFAULT, EPOCH, OFF, PLENTY, Pair, Server

THRESHOLDS = (0.001, 0.002, 0.003, 0.004, 0.005, 0.008, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
MIN_HITS = (16, 64, 128, 256, 512, 1_024)
PAIRS = [Pair(threshold, hits) for hits in MIN_HITS for threshold in THRESHOLDS]
FORMER = Pair(0.02, 256)
REQUESTS = 2 * EPOCH + 64  # a window, and a little
TIGHT = 1_024  # tokens: the shared prompts fit, a copy for each of ten users does not
EPOCHS = (256, 1_024, 2_048)

Step = Callable[[], object]


def serve(server: Server, asked: Iterable[Asked]) -> tuple[int, int]:
    """Returns the tokens found cached, and those asked."""
    found = total = 0
    for ask in asked:
        found += server.ask(ask.user, ask.prompt)
        total += len(ask.prompt)
    return found, total


def watched(asked: Iterable[Asked]) -> list[History]:
    """The shared prefixes that are in use, on a server whose monitor only looks."""
    server = Server(OFF)
    serve(server, asked)
    return prefixes(server.cache, MIN_HITS[0])


def demoted(shared: Sequence[History], pairs: Sequence[Pair]) -> list[int]:
    """For each pair: how many of them are demoted at least once."""
    return [sum(each.first_demotion(pair) is not None for each in shared) for pair in pairs]


def ordinary_users(step: Step) -> list[dict[str, Any]]:
    """For each population: shared prefixes, and how many of them each of ``PAIRS`` demotes."""
    rows = []
    for users, zipf in (*TEAMS, *LARGE_POPULATIONS):
        shared: list[History] = []
        for name in NAMES:
            shared += watched(ordinary(name, users, zipf, REQUESTS))
            step()
        rows.append(_row(f"{users} users", shared) | {"users": users, "zipf": zipf})
    rows.append(_row("jobs of one user among 200", watched(jobs())) | {"users": 1, "zipf": None})
    step()
    return rows


def _row(name: str, shared: Sequence[History]) -> dict[str, Any]:
    lowest = [low for each in shared if (low := each.lowest(DEFAULT.min_hits)) is not None]
    return {
        "population": name,
        "prefixes": len(shared),
        "lowest_diversity": min(lowest, default=None),
        "demoted": demoted(shared, PAIRS),
    }


def probers(step: Step) -> list[dict[str, Any]]:
    """For each scenario and number of accounts: probes until each of ``PAIRS`` demotes."""
    rows = []
    for scenario in SCENARIOS:
        for accounts in ACCOUNTS:
            seen = attack(scenario, accounts)
            until = [seen.probes_until_demotion(pair) for pair in PAIRS]
            rows.append({"scene": scenario.name, "accounts": accounts, "probes": until})
            step()
    return rows


COSTS: dict[str, Callable[[int, int], list[Asked]]] = {
    "the same documents": lambda users, requests: ordinary("documents", users, 1.4, requests),
    "documents that change": new_documents,
    "a night of one user": night,
}


def costs(pairs: Sequence[Pair], step: Step, users: int = 10) -> list[dict[str, Any]]:
    """What a team loses of its cached tokens: whole replays, with the monitor and without it."""
    rows = []
    for name, make in COSTS.items():
        asked = make(users, REQUESTS)
        for memory in (PLENTY, TIGHT):
            without, total = serve(Server(OFF, memory=memory), asked)
            for pair in dict.fromkeys(pairs):
                server = Server(pair, memory=memory)
                found, _ = serve(server, asked)
                rows.append(
                    {
                        "workload": name,
                        "users": users,
                        "memory": memory,
                        "threshold": pair.threshold,
                        "min_hits": pair.min_hits,
                        "demotions": server.demotions,
                        "cached_share_without": without / total,
                        "lost_share": 1 - found / without,
                    }
                )
            step()
    return rows


def epochs(step: Step, users: int = 10) -> list[dict[str, Any]]:
    """The lowest diversity of a team's prompts, by the length of an epoch."""
    rows = []
    for epoch in EPOCHS:
        server = Server(OFF, epoch=epoch)
        serve(server, ordinary("system prompts", users, 1.4, 2 * epoch + 64))
        low = [each.lowest(16) for each in prefixes(server.cache, epoch // 8)]
        lowest = min(each for each in low if each is not None)
        rows.append({"epoch_requests": epoch, "users": users, "lowest_diversity": lowest})
        step()
    return rows


STEPS = (
    (len(TEAMS) + len(LARGE_POPULATIONS)) * len(NAMES)
    + 1
    + len(SCENARIOS) * len(ACCOUNTS)
    + 2 * len(COSTS)
    + len(EPOCHS)
)
