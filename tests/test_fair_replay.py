"""What fair service is to reach, on the modelled device: the same figures on every machine.

Beside each target it is shown that upstream's policies miss it, or the target would say nothing.
"""

from __future__ import annotations

from functools import cache
from statistics import mean
from typing import Any

import pytest
from fair_service.device import A10G, A10G_8B
from fair_service.engine import Engine
from fair_service.entitlement import jain, water_filling
from fair_service.fairness_targets import KEPT, LATER, SERVED
from fair_service.gap import Gaps, largest_gap
from fair_service.measures import proven_bound, windowed_difference
from fair_service.record import Ask, Scenario, Served
from fair_service.replay import (
    SEED,
    SUITE_PRICES,
    Run,
    figures,
    play,
    played_alone,
    scale_of,
    scenario_of,
)
from fair_service.scenarios import FIRST_TOKEN, LAST_TOKEN, SCENARIOS
from fair_service.service import Prices, by_user, service_at
from fair_service.suites import WRITTEN, suite

from sglang.srt.tenancy.schedule.vtc import VirtualTokenCounter

CROWDED = ["poisson", "long and short", "zipf", "weights"]  # several who ask for too much
NOISY, FLOOD = "noisy neighbour", "noisy flood"


scale = cache(scale_of)


@cache
def scenario(name: str) -> Scenario:
    return scenario_of(name, scale())


@cache
def alone(name: str) -> dict[str, list[Served]]:
    return played_alone(scenario(name)) if name in (NOISY, FLOOD) else {}


@cache
def measured(name: str, policy: str, upstream: bool = False) -> dict[str, Any]:
    return figures(scenario(name), Run(policy, upstream), alone=alone(name))


@cache
def measured_suite(name: str, policy: str) -> dict[str, Any]:
    return figures(suite(name), Run(policy), A10G, prices=SUITE_PRICES)


# The targets


@pytest.mark.slow
@pytest.mark.parametrize("name", SCENARIOS)
def test_service_of_vtc_differs_by_less_than_its_bound(name: str) -> None:
    gap = measured(name, "vtc")["gap"]
    assert gap["exact"] <= gap["bound"]
    # At half load nobody is seen to wait beside somebody else.
    assert gap["exact"] > 0 or name == NOISY


@pytest.mark.slow
@pytest.mark.parametrize("name", ["overload", "poisson", FLOOD])
def test_service_of_fcfs_differs_by_more(name: str) -> None:
    gap = measured(name, "fcfs")["gap"]
    assert gap["exact"] > gap["bound"]


@pytest.mark.slow
def test_without_the_lift_vtc_breaks_its_bound() -> None:
    """Who comes back would be served alone until they had what the others had meanwhile."""

    class SavesUp(VirtualTokenCounter):
        def _floor(self) -> float:
            return 0.0

    back = scenario("back from idle")
    gaps = Gaps()
    engine = Engine("vtc", A10G_8B, watch=gaps)
    engine.policy.__class__ = SavesUp
    engine.play(back.asks)
    bound = measured("back from idle", "vtc")["gap"]["bound"]
    assert gaps.worst > bound


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["vtc", "dlpm"])
@pytest.mark.parametrize("name", CROWDED)
def test_the_backlogged_get_what_they_are_entitled_to(name: str, policy: str) -> None:
    if (name, policy) != ("zipf", "dlpm"):
        assert measured(name, policy)["smallest_share_backlogged"] >= SERVED
        return
    # The least served of twenty users differs by 0.03 from seed to seed, and one seed alone is
    # below the target (docs/fairness.md): what is promised is the mean.
    shares = [
        figures(scenario_of(name, scale(), seed), Run(policy))["smallest_share_backlogged"]
        for seed in range(1, 6)
    ]
    assert mean(shares) >= SERVED
    assert min(shares) >= 0.94


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["fcfs", "lpm"])
@pytest.mark.parametrize("name", CROWDED)
def test_under_upstreams_policies_somebody_does_not(name: str, policy: str) -> None:
    """Those who ask for less suffer even more."""
    assert measured(name, policy)["smallest_share"] < 0.8
    assert measured(name, "vtc")["smallest_share"] > 0.9


@pytest.mark.slow
@pytest.mark.parametrize("name", SCENARIOS)
def test_locality_costs_dlpm_no_throughput(name: str) -> None:
    assert measured(name, "dlpm")["throughput"] >= KEPT * measured(name, "lpm")["throughput"]


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["vtc", "dlpm"])
@pytest.mark.parametrize("name", SCENARIOS)
def test_the_device_is_never_idle_while_somebody_waits(name: str, policy: str) -> None:
    assert measured(name, policy)["idle"] == 0


def disturbed(name: str, policy: str, upstream: bool = False) -> float:
    """How many times later than alone the victim's first token comes, p99."""
    return float(measured(name, policy, upstream)["victim"]["p99_over_alone"])


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["vtc", "dlpm"])
def test_a_noisy_neighbour_is_hardly_felt(policy: str) -> None:
    assert disturbed(NOISY, policy) <= LATER


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["fcfs", "lpm"])
@pytest.mark.parametrize("upstream", [False, True])
def test_it_is_felt_under_upstreams_policies(policy: str, upstream: bool) -> None:
    assert disturbed(NOISY, policy, upstream) > 2 * LATER


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["vtc", "dlpm"])
def test_a_flood_is_felt_far_less_than_on_upstream(policy: str) -> None:
    for theirs in ("fcfs", "lpm"):
        assert 50 * disturbed(FLOOD, policy) < disturbed(FLOOD, theirs, upstream=True)


# VTC's own results

# Smallest served / entitled, and Jain's index of what was served, FCFS and VTC: computed from
# the records in github.com/Ying1123/VTC-artifact with its own spread of service.
PUBLISHED = {
    "proportional": ((0.744, 0.981), (0.659, 0.778)),
    "on_off_less": ((0.799, 1.000), (0.625, 0.660)),
    "overload-multi": ((0.748, 0.981), (0.967, 1.000)),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", PUBLISHED)
def test_the_replay_shows_what_vtcs_authors_measured(name: str) -> None:
    for published, policy in zip(zip(*PUBLISHED[name], strict=True), ["fcfs", "vtc"], strict=True):
        found = measured_suite(name, policy)
        assert found["smallest_share"] == pytest.approx(published[0], abs=0.03)
        assert found["jain"]["served"] == pytest.approx(published[1], abs=0.03)


@pytest.mark.slow
def test_its_device_is_as_fast_as_theirs() -> None:
    """They report 875 tokens per second."""
    assert measured_suite("overload-multi", "vtc")["throughput"] == pytest.approx(875, rel=0.05)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["proportional", "on_off_less"])
def test_the_replay_ranks_waits_as_they_do(name: str) -> None:
    """Theirs: p50 of 96 s and 85 s under FCFS, 4.7 s and 2.7 s under VTC."""
    fcfs, vtc = (measured_suite(name, policy)["victim"] for policy in ("fcfs", "vtc"))
    assert fcfs["p50"] == pytest.approx(90, rel=0.2)
    assert fcfs["p50"] > 15 * vtc["p50"]
    assert fcfs["p99"] > 15 * vtc["p99"]


# How it is measured


def served(user: str, at: float, start: float, end: float, prompt: int = 10) -> Served:
    return Served(Ask(at, user, range(prompt), 10), start, start, end, 0, 10)


def test_water_filling_gives_what_the_modest_leave_to_the_others() -> None:
    asked = {"little": 1.0, "more": 6.0, "most": 100.0}
    assert water_filling(asked, {}, 10.0) == {"little": 1.0, "more": 4.5, "most": 4.5}
    assert water_filling(asked, {"most": 2.0}, 10.0) == {"little": 1.0, "more": 3.0, "most": 6.0}


def test_jains_index_is_one_over_n_when_one_has_it_all() -> None:
    assert jain([3, 3, 3]) == 1
    assert jain([1, 0, 0, 0]) == 0.25


def test_service_is_spread_from_the_first_token_to_the_last() -> None:
    had = service_at([served("a", 0, 10, 20)], Prices(), [5, 10, 15, 20, 30])
    assert had == pytest.approx([0, 0, 15, 30, 30])


def test_a_user_who_asked_for_nothing_is_not_behind() -> None:
    """20 windows of 10 s; one user is served 3 a second, the other asks for nothing, or waits."""
    busy = [served("busy", 10.0 * n, 10.0 * n, 10.0 * n + 10) for n in range(21)]
    users = by_user([*busy, served("late", 0, 210, 220)])
    absent = windowed_difference(users, Prices(), {})
    users = by_user([*busy, *(served("late", 10.0 * n, 210, 220) for n in range(21))])
    waiting = windowed_difference(users, Prices(), {})
    assert absent["mean"] < 0.2
    assert waiting["mean"] == pytest.approx(3, rel=0.1)


def test_what_a_client_sees_of_the_gap_is_about_what_was_charged() -> None:
    gap = measured("overload", "fcfs")["gap"]
    assert gap["seen"] == pytest.approx(gap["exact"], rel=0.02)


def test_a_gap_counts_only_while_both_wait() -> None:
    first = [served("a", 0, 1, 2), served("a", 0, 3, 4)]
    waits = served("b", 0, 5, 6)
    comes_late = served("b", 4.5, 5, 6)
    assert largest_gap(by_user([*first, waits]), Prices(), {}) == pytest.approx(30)
    assert largest_gap(by_user([*first, comes_late]), Prices(), {}) == 0


def test_the_bound_is_that_of_the_paper() -> None:
    assert proven_bound(Prices(), 256, 10_000) == 40_000


@pytest.mark.slow
@pytest.mark.parametrize("name", SCENARIOS)
def test_a_scenario_is_the_same_each_time_and_fit_for_any_model(name: str) -> None:
    again = scenario_of(name, scale())
    assert again == scenario(name)
    assert again != scenario_of(name, scale(), SEED + 1)
    tokens = {token for ask in again.asks[:200] for token in ask.prompt}
    assert min(tokens) >= FIRST_TOKEN
    assert max(tokens) <= LAST_TOKEN
    assert again.backlogged <= set(again.users)


@pytest.mark.slow
def test_a_replay_is_the_same_each_time() -> None:
    first, again = (play(suite("overload", 0.2), Run("dlpm"), A10G) for _ in range(2))
    assert first == again


def test_suites_have_their_published_rates() -> None:
    minutes = {"overload": 6, "overload-multi": 6, "dist_shift": 15, "weighted": 6}
    requests = {
        "overload": 1620,
        "overload-multi": 1512,
        "proportional": 1350,
        "on_off_less": 1350,
        "on_off_overload": 2400,
        "poisson_short_long": 5700,
        "dist_shift": 1875,
        "weighted": 2160,
    }
    for name in WRITTEN:
        played = suite(name)
        assert len(played.asks) == pytest.approx(requests[name], rel=0.03)
        assert played.asks[-1].at == pytest.approx(60 * minutes.get(name, 10), rel=0.02)
