"""The benchmark of eviction policies measures real caches, and its published targets hold."""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from eviction_policies.cache_of_policy import DEVICE, EPOCH, HOST, PolicyCache
from eviction_policies.comparison import play, start
from eviction_policies.eviction_figure import draw
from eviction_policies.eviction_targets import as_table, rows, targets
from eviction_policies.mixes import MIXES, Writer, crowd
from eviction_policies.policies import CHOSEN, POLICIES, UPSTREAM, Policy
from support.trees import start_group

from sglang.srt.tenancy.flags import TenantOptions

RESULTS = Path(__file__).parent.parent / "benchmarks" / "results" / "eviction.json"


@pytest.fixture(autouse=True, scope="module")
def _group(tmp_path_factory: pytest.TempPathFactory) -> None:
    start_group(tmp_path_factory.mktemp("group"))
    start()


@pytest.mark.parametrize("name", ["crowd", "conversations", "growers"])
def test_a_policy_on_our_tree_finds_what_upstreams_tree_finds(name: str) -> None:
    """LRU as a policy on our tree, against upstream's own: what is compared are policies. The trees
    differ a little where conversations are joined, and then cut from their end."""
    mix = next(mix for mix in MIXES if mix.name == name)
    theirs, ours = PolicyCache(upstream=True), PolicyCache(order=Policy)
    found = [0, 0]
    for ask in islice(mix.asks(Writer()), 500):
        for place, server in enumerate((theirs, ours)):
            found[place] += sum(server.ask(ask.user, ask.prompt))
    assert found[0] > 0
    assert abs(found[1] / found[0] - 1) < 0.01


@pytest.mark.slow
def test_a_crowd_that_comes_once_crowds_nobody_out() -> None:
    chosen, held = (play("crowd", policy, 700) for policy in (CHOSEN, "held"))
    upstream = play("crowd", UPSTREAM, 700)
    assert chosen["found"] >= 0.95 * upstream["found"] > 0
    assert held["found"] < 0.5 * upstream["found"]


def test_who_asks_seldom_beside_who_scans_loses_nothing() -> None:
    chosen, upstream = (play("scans", policy, 600) for policy in (CHOSEN, UPSTREAM))
    assert chosen["kinds"]["small"] > 1.5 * upstream["kinds"]["small"]


def test_requests_are_the_same_each_time() -> None:
    for mix in MIXES:
        assert list(islice(mix.asks(Writer()), 100)) == list(islice(mix.asks(Writer()), 100))
    users = [ask.user for ask in islice(crowd(Writer()), 62)]
    assert users.count("stays") == 2
    assert len(set(users)) == 61


@pytest.fixture(scope="module")
def published() -> Any:
    return json.loads(RESULTS.read_text())


def test_what_is_published_is_of_these_defaults(published: Any) -> None:
    assert published["epoch_requests"] == EPOCH == TenantOptions.tenant_epoch_requests
    assert (published["device_tokens"], published["host_tokens"]) == (DEVICE, HOST)
    assert len(published["rows"]) == len(MIXES) * len(POLICIES)
    found = targets(published)
    assert published["targets"] == rows(found)
    # What is missed is said in docs/fairness.md.
    missed = [target.name for target in found if not target.met]
    assert missed == ["twice, small user's part of that under held"]


def test_the_picture_and_the_table_show_every_mix(published: Any, tmp_path: Path) -> None:
    draw(published, tmp_path / "eviction.png")
    assert (tmp_path / "eviction.png").stat().st_size > 20_000
    table = as_table(published)
    assert all(f"| {mix.name} |" in table for mix in MIXES)
    assert table.count("FAIL") == 1
