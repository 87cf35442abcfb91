"""The benchmark of the scheduler's round runs, and a round's work does not grow with the queue."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
import scheduling_round
from round_cost.counting import Uncounted
from round_cost.rounds import POLICIES, SITUATIONS, Scheduler

from sglang.srt.managers.schedule_batch import Req


@pytest.mark.slow
def test_it_leaves_what_it_promises(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scheduling_round.main(["--waiting", "150", "300", "--rounds", "4", "--out", str(tmp_path)])
    results = json.loads((tmp_path / "scheduling_round.json").read_text())
    runs = [(run["waiting"], run["users"], run["situation"]) for run in results["runs"]]
    assert runs == [(n, n // 10, situation) for n in (150, 300) for situation in SITUATIONS]
    for run in results["runs"]:
        assert tuple(run["policies"]) == POLICIES
        for cost in run["policies"].values():
            assert cost["us"] > 0
            assert 0 < cost["low"] <= cost["ratio"] <= cost["high"]
        assert run["policies"]["fcfs"]["ratio"] == 1
    assert [target["policy"] for target in results["targets"]] == ["vtc", "dlpm"] * 2 + [
        *("fcfs", "dlpm")
    ]
    assert all(cost["us"] > 0 for cost in results["counting"].values())
    assert (tmp_path / "scheduling_round.png").stat().st_size > 10_000
    assert "times fcfs's round" in capsys.readouterr().out


def test_counting_is_compared_with_none() -> None:
    schedulers = Scheduler("fcfs", 20, 10), Uncounted("fcfs", 20, 10)
    for scheduler in schedulers:
        for _ in range(100):
            scheduler.fill()
            scheduler.step()
    counted, uncounted = (scheduler.cache.usage.total for scheduler in schedulers)
    assert counted.requests > 0
    assert counted.output > 0
    assert (uncounted.requests, uncounted.output) == (0, 0)
    assert schedulers[0].service == schedulers[1].service


class Counted(Scheduler):
    """Counts calls of Python functions in its rounds."""

    calls = 0

    def _admit(self) -> list[Req]:
        def count(frame: FrameType, event: str, arg: Any) -> None:
            self.calls += event == "call"

        sys.setprofile(count)
        try:
            return super()._admit()
        finally:
            sys.setprofile(None)


def calls_to_a_request(policy: str, waiting: int) -> float:
    """Of rounds with newcomers and admissions, for each request that is admitted."""
    scheduler = Counted(policy, waiting, waiting // 10)
    for _ in range(5):
        scheduler.steady_round()
    scheduler.calls = admitted = 0
    for _ in range(30):
        scheduler.steady_round()
        admitted += scheduler.admitted
    return scheduler.calls / admitted


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["fcfs", "vtc", "dlpm"])
def test_a_rounds_work_does_not_grow_with_those_who_wait(policy: str) -> None:
    assert calls_to_a_request(policy, 6_000) <= 1.25 * calls_to_a_request(policy, 600)


@pytest.mark.slow
def test_a_policy_that_looks_at_everybody_would_show() -> None:
    few, many = (calls_to_a_request("dfs-weight", waiting) for waiting in (50, 500))
    assert many > 4 * few
