"""The thresholds' benchmark says what the monitor does, and what its defaults promise holds."""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from probe_monitor.history import prefixes
from probe_monitor.probers import ALONE, POPULAR, RARE, TARGET, Scenario, attack, probing
from probe_monitor.sweep import FORMER, MIN_HITS, TIGHT, demoted, serve, watched
from probe_monitor.threshold_figure import draw
from probe_monitor.threshold_table import as_table, false_share, probes, smallest_team
from probe_monitor.traffic import NAMES, jobs, new_documents, night, ordinary
from probe_monitor.watched_cache import DEFAULT, EPOCH, OFF, Pair, Server

RESULTS = Path(__file__).parent.parent / "benchmarks" / "results" / "monitor.json"


def probes_needed(
    pair: Pair, scenario: Scenario = ALONE, accounts: int = 1, most: int = 2 * EPOCH
) -> int | None:
    """Sent until a server that runs with this pair demotes; None: more than ``most``."""
    server = Server(pair)
    for sent, _ in enumerate(islice(probing(server, scenario, accounts), most), 1):
        if server.demotions:
            return sent
    return None


@pytest.mark.slow
def test_one_account_is_ended_at_the_least_number_of_hits() -> None:
    assert probes_needed(DEFAULT) == DEFAULT.min_hits


@pytest.mark.slow
def test_some_accounts_take_longer_and_more_look_like_a_team() -> None:
    two = probes_needed(DEFAULT, accounts=2)
    assert two is not None
    assert DEFAULT.min_hits < two <= 2 / DEFAULT.threshold + 1
    assert probes_needed(DEFAULT, accounts=5) is None


@pytest.mark.slow
def test_threshold_0_never_demotes() -> None:
    assert probes_needed(OFF, most=2 * DEFAULT.min_hits) is None


def test_what_an_operator_registered_is_never_demoted() -> None:
    server = Server(DEFAULT)
    server.cache.publish(TARGET)
    assert len(list(islice(probing(server, ALONE, 1), 2 * DEFAULT.min_hits))) == 512
    assert server.demotions == 0
    assert server.ask("somebody", (*TARGET, 9)) == len(TARGET)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("users", "zipf"), [(200, 1.4), (5, 1.4)])
def test_ordinary_users_are_left_alone(name: str, users: int, zipf: float) -> None:
    server = Server(DEFAULT)
    serve(server, ordinary(name, users, zipf, EPOCH + 128))  # their ratio is lowest at its end
    assert server.cache.core.counts["promotions"] > 0
    assert server.demotions == 0


@pytest.mark.slow
def test_a_higher_threshold_costs_a_team_of_ten_much_of_what_is_cached() -> None:
    asked = new_documents(10, EPOCH + 512)
    kept, lost = (serve(Server(pair, memory=TIGHT), asked)[0] for pair in (DEFAULT, FORMER))
    without, _ = serve(Server(OFF, memory=TIGHT), asked)
    assert kept == without
    assert lost < 0.9 * without


@pytest.mark.slow
def test_a_team_of_which_one_works_through_the_night_is_not_spared() -> None:
    server = Server(DEFAULT)
    asked = night(10, 2 * EPOCH + 256)
    serve(server, asked)
    assert server.demotions > 0


@pytest.mark.slow
@pytest.mark.parametrize("scenario", [ALONE, RARE, POPULAR], ids=lambda scenario: scenario.name)
def test_probes_are_counted_as_a_server_counts_them(scenario: Scenario) -> None:
    """One replay in which nothing is demoted foretells all that do."""
    seen = attack(scenario, 2, probes=400)
    pairs = [Pair(0.005, 16), Pair(0.02, 300), Pair(0.15, 64)]
    foretold = [seen.probes_until_demotion(pair) for pair in pairs]
    assert foretold == [probes_needed(pair, scenario, 2, most=400) for pair in pairs]
    assert any(foretold)


@pytest.mark.slow
@pytest.mark.parametrize("pair", [Pair(0.02, 64), Pair(0.012, 512), Pair(0.2, 16)])
def test_false_demotions_are_counted_as_a_server_counts_them(pair: Pair) -> None:
    asked = ordinary("documents", 10, 1.4, EPOCH + 128)
    foretold = [each.first_demotion(pair) for each in watched(asked)]
    server = Server(pair)
    first = None
    for ask in asked:
        server.ask(ask.user, ask.prompt)
        if server.demotions and first is None:
            first = server.admitted
    assert min((each for each in foretold if each is not None), default=None) == first
    assert first is not None
    assert len(prefixes(server.cache, MIN_HITS[0])) == foretold.count(None)


def test_jobs_are_spared_by_more_hits() -> None:
    shared = watched(jobs((64, 128, 256)))
    few, more = demoted(shared, [Pair(0.05, 32), Pair(0.05, 200)])
    assert len(shared) > few > more > 0


def test_the_workloads_are_the_same_each_time() -> None:
    assert jobs((8, 16)) == jobs((8, 16))
    assert new_documents(5, 300) == new_documents(5, 300)


@pytest.fixture(scope="module")
def published() -> Any:
    return json.loads(RESULTS.read_text())


def test_what_is_published_is_of_these_defaults(published: Any) -> None:
    assert published["default"] == DEFAULT._asdict()
    assert published["epoch_requests"] == EPOCH
    assert smallest_team(published, DEFAULT) == 5
    assert false_share(published, DEFAULT) == 0 < false_share(published, FORMER)
    assert probes(published, DEFAULT, ALONE.name, 1) == DEFAULT.min_hits


def test_the_picture_and_the_table_show_the_default(published: Any, tmp_path: Path) -> None:
    draw(published, tmp_path / "monitor.png")
    assert (tmp_path / "monitor.png").stat().st_size > 20_000
    assert f"| {DEFAULT.threshold:g} / {DEFAULT.min_hits} |" in as_table(published)
