"""Colluding accounts that ask for one public prompt again and again."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count, islice

import numpy as np
from workloads.request import Zipf

from probe_monitor.history import History, history_of
from probe_monitor.traffic import HEADER, SEED
from probe_monitor.watched_cache import EPOCH, OFF, Pair, Server

ACCOUNTS = (1, 2, 3, 5, 8)
PROBES = 2 * EPOCH  # after so many, of half of all requests or more, windows repeat themselves
TARGET = (*HEADER, *range(100, 140))
REAL_USERS = 200


@dataclass(frozen=True)
class Scenario:
    """``others``: the share of other users' requests that use the probed prompt. They send one
    request for each probe; None: they have gone, the window is empty, and only probes come."""

    name: str
    others: float | None


ALONE = Scenario("alone on the server", None)
RARE = Scenario("prompt rarely used (1 in 50)", 0.02)
POPULAR = Scenario("popular prompt (1 in 3)", 1 / 3)
SCENARIOS = (ALONE, RARE, POPULAR)


@dataclass(frozen=True)
class Attack:
    """``probes``: requests admitted when each probe had been served."""

    scenario: Scenario
    accounts: int
    history: History
    probes: list[int]

    def probes_until_demotion(self, pair: Pair) -> int | None:
        """0: others had it demoted before; None: it never was."""
        end = self.history.first_demotion(pair)
        return None if end is None else int(np.searchsorted(self.probes, end, side="right"))


def attack(scenario: Scenario, accounts: int, probes: int = PROBES) -> Attack:
    """An attack that nobody ends, for ``Attack.probes_until_demotion`` of any thresholds."""
    server = Server(OFF)
    moments = list(islice(probing(server, scenario, accounts), probes))
    return Attack(scenario, accounts, _target(server), moments)


def probing(server: Server, scenario: Scenario, accounts: int) -> Iterator[int]:
    """Probe without end. Yields the requests admitted so far, after each probe."""
    others = _others(scenario)
    _make_public(server)
    if scenario.others is None:
        for _ in range(2 * server.options.tenant_epoch_requests):
            server.ask(*next(others))
    for number in count():
        if scenario.others is not None:
            server.ask(*next(others))
        account = number % accounts
        server.ask(f"prober-{account}", (*TARGET, 200 + account))
        yield server.admitted


def _make_public(server: Server) -> None:
    for number in range(3):
        server.ask(f"first-{number}", (*TARGET, 300 + number))


def _others(scenario: Scenario) -> Iterator[tuple[str, tuple[int, ...]]]:
    rng = random.Random(SEED)
    users = Zipf(REAL_USERS, 1.0, rng)
    for number in count(1_000):
        uses = rng.random() < (scenario.others or 0.0)
        yield f"user-{users.draw()}", (*(TARGET if uses else HEADER), number)


def _target(server: Server) -> History:
    node = server.cache.root_node
    depth = 0
    while depth < len(TARGET):
        node = node.children[TARGET[depth]]
        depth += len(node.key)
    return history_of(server.cache, node)
