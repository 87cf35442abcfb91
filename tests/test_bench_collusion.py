"""Colluding accounts on the real tree: what is proved of private promotion is also seen, and that
counting users tells all. Small; ``make bench-collusion`` tries more, and more often."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from colluding.advantage import advantage
from colluding.attack import OTHERS, PLANTED
from colluding.cells import COUNT, DEFAULT, MAIN, SETTINGS, Cell, measure
from colluding.collusion_figure import draw
from colluding.collusion_table import as_table, kept, least_crowd, targets
from report.target import all_met

from sglang.srt.tenancy.flags import TenantOptions

RESULTS = Path(__file__).parent.parent / "benchmarks" / "results" / "collusion.json"
TRIALS = 600  # with the victim, and as many without


def attacked(*cells: Cell) -> list[dict[str, Any]]:
    return measure(list(cells), TRIALS, lambda: None)


def test_private_promotion_keeps_its_promise_where_counting_tells_all() -> None:
    counting = Cell(COUNT, PLANTED.with_accounts(COUNT.options.public_users - 1))
    private = Cell(DEFAULT, PLANTED.with_accounts(DEFAULT.sharpest))
    counted, hidden = attacked(counting, private)
    assert counted["value"] == 1
    assert counted["low"] > MAIN.bound
    assert hidden["high"] < DEFAULT.bound
    # As the theory says: it is this vote that may matter, and no more than that.
    assert hidden["low"] < DEFAULT.threshold.sharpest < hidden["high"]
    assert hidden["low"] > 0.1


@pytest.mark.slow
@pytest.mark.parametrize("attack", OTHERS, ids=lambda attack: attack.name)
def test_no_attack_gains_more_than_the_bound(attack: Any) -> None:
    (row,) = attacked(Cell(MAIN, attack.with_accounts(MAIN.sharpest)))
    assert row["high"] < MAIN.bound


def test_a_rule_is_judged_on_trials_that_it_was_not_chosen_on() -> None:
    there, absent = [(1,)] * 10 + [(0,)] * 90, [(0,)] * 100
    found = advantage(there, absent, learnt=10)
    assert (found.true, found.false, found.trials) == (0, 0, 180)
    told = advantage([(1,), (0,)] * 50, absent, learnt=50)
    assert (told.true, told.false, told.value) == (0.5, 0, 0.5)
    assert told.low < 0.5 < told.high


@pytest.fixture(scope="module")
def published() -> Any:
    return json.loads(RESULTS.read_text())


def test_what_is_published_meets_its_targets_and_is_of_the_default(published: Any) -> None:
    assert all_met(targets(published))
    assert DEFAULT.epsilon == TenantOptions.tenant_dp_epsilon
    assert DEFAULT.votes == TenantOptions.tenant_dp_votes
    assert published["settings"] == [setting.describe() for setting in SETTINGS]
    assert all(row["trials"] >= 20_000 for row in published["attacks"])
    assert {row["attack"] for row in published["attacks"]} == {
        PLANTED.name,
        *(attack.name for attack in OTHERS),
    }


def test_useful_sharing_is_kept_from_twenty_users_on(published: Any) -> None:
    assert least_crowd(published, DEFAULT.name) == 20
    assert kept(published, 20, "salt") < 0.9 < 0.99 < kept(published, 20, DEFAULT.name)
    assert kept(published, 10, DEFAULT.name) < 0.9


def test_the_picture_and_the_tables_are_drawn(published: Any, tmp_path: Path) -> None:
    draw(published, tmp_path / "collusion.png")
    assert (tmp_path / "collusion.png").stat().st_size > 20_000
    table = as_table(published)
    assert table.count("\n| ") == len(published["attacks"]) + len(published["crowds"]) + 1
