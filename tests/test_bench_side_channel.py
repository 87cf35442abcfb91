"""The attacks of benchmarks/side_channel.py: they work on upstream, and not on selective mode.

What is asserted are counts of cached tokens, never times: those are for a quiet machine.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from attacks.attack_targets import targets
from attacks.campaign import attack
from attacks.collusion import FLAGGED, PLAIN, collude
from attacks.collusion_by_votes import THRESHOLD, collude_by_votes
from attacks.flagged import Flagged, share_and_guess
from attacks.forgery import write_config
from attacks.monitor import SOONER
from attacks.scenario import Effort, Scenario
from serving.client import Client
from serving.prompts import Prompts
from serving.separation import auc, separation
from serving.server import RULES, SELECTIVE, UPSTREAM, VOTES, Mode, Model, running

DEVICE_TOKENS = 8_192
ADMIN_KEY = "sk-of-the-operator"
SETTINGS = (
    *("--enable-hierarchical-cache", "--hicache-ratio", "4"),
    *("--max-total-tokens", str(DEVICE_TOKENS), "--schedule-policy", "lpm"),
    *("--admin-api-key", ADMIN_KEY),
)
EFFORT = Effort(
    probes={1: 6, 8: 6, 64: 6},
    trials={1: 40, 8: 80, 64: 40},
    null_probes=4,
    secrets=2,
    symbols=6,
    host_probes=6,
    collusions=3,
    windows=9,
    chats=4,
    rounds={64: 2},
    flagged=4,
)


def test_auc_counts_wins_and_half_of_ties() -> None:
    assert auc([2, 3], [0, 1]) == 1
    assert auc([0, 1], [2, 3]) == 0
    assert auc([1, 1], [1]) == 0.5
    assert auc([1, 3], [2, 1]) == (0.5 + 0 + 1 + 1) / 4


def test_what_tells_everything_is_told_from_what_tells_nothing() -> None:
    misses = [float(n % 17) for n in range(60)]
    clear = separation([score + 20 for score in misses], misses)
    assert (clear.auc, clear.low, clear.tpr, clear.fpr) == (1, 1, 1, 0)
    assert clear.ks_p < 1e-9
    assert not clear.silent
    nothing = separation(misses[::-1], misses, family=4)
    assert nothing.auc == 0.5
    assert nothing.wide_low < nothing.low < 0.5 < nothing.high < nothing.wide_high
    assert nothing.silent
    assert nothing.ks_p > 0.5


def test_hits_that_score_lower_are_no_hits() -> None:
    below = separation([0.0] * 20, [1.0] * 20)
    assert below.auc == 0
    assert below.ks_p == 1


def test_prompts_begin_with_tokens_of_their_own() -> None:
    prompts = Prompts(1)
    assert len({prompts.fresh(3)[0] for _ in range(5_000)}) == 5_000
    assert Prompts(2).fresh(9) == Prompts(2).fresh(9)


async def everything(scenario: Scenario) -> dict[str, Any]:
    return await attack(scenario, DEVICE_TOKENS)


async def what_is_sensitive(scenario: Scenario) -> dict[str, Any]:
    """The attacks that send text, which is what a detector reads."""
    plain, flagged = [await collude(scenario, 3, content) for content in (PLAIN, FLAGGED)]
    return {"flagged": await share_and_guess(scenario), "plain 3": plain, "flagged 3": flagged}


async def by_votes(scenario: Scenario) -> dict[str, Any]:
    """Fewer accounts than can ever be enough with the victim's vote, and as many as always are."""
    scenario.effort = replace(scenario.effort, collusions=1)
    too_few, enough = THRESHOLD.least - 2, THRESHOLD.most
    return {
        "too few": await collude_by_votes(scenario, too_few),
        "enough": await collude_by_votes(scenario, enough),
    }


def campaign(
    mode: Mode,
    folder: Path,
    attacks: Callable[[Scenario], Awaitable[dict[str, Any]]] = everything,
) -> dict[str, Any]:
    config = ("--tenant-config", str(write_config(folder))) if mode.has_owners else ()
    flags = (*SETTINGS, *config, *(SOONER if mode.promotes and not mode.window else ()))

    async def run(url: str) -> dict[str, Any]:
        async with Client(url, ADMIN_KEY) as client:
            scenario = Scenario(client, Prompts(1), mode, EFFORT, keyed=mode.has_owners)
            return await attacks(scenario)

    with running(Model(folder / "tiny", "tiny"), mode, flags) as url:
        return asyncio.run(run(url))


@pytest.fixture(scope="module")
def upstream(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return campaign(UPSTREAM, tmp_path_factory.mktemp("upstream"))


@pytest.fixture(scope="module")
def selective(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return campaign(SELECTIVE, tmp_path_factory.mktemp("selective"))


@pytest.fixture(scope="module")
def rules(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return campaign(RULES, tmp_path_factory.mktemp("rules"), what_is_sensitive)


def recovered(result: dict[str, Any], how: str) -> dict[str, Any]:
    """What was recovered by counting cached tokens."""
    return next(
        recovery
        for recovery in result["recovery"]
        if recovery["signal"] == "cached_tokens" and recovery["how"] == how
    )


@pytest.mark.server
@pytest.mark.alone
def test_upstream_tells_every_right_guess(upstream: dict[str, Any]) -> None:
    assert [each["by_count"]["auc"] for each in upstream["membership"].values()] == [1, 1, 1]
    for trials in (*upstream["counted"], upstream["chat"]):
        assert trials["confirmed"] == trials["right_guesses"] > 0
        assert trials["false"] == 0
    assert upstream["null"]["by_count"]["auc"] == 0.5


@pytest.mark.server
@pytest.mark.alone
@pytest.mark.parametrize("how", ["token by token", "word by word"])
def test_upstream_gives_secrets_away(upstream: dict[str, Any], how: str) -> None:
    result = recovered(upstream, how)
    assert result["whole"] == result["secrets"] > 0
    # Half of ten candidates on average, and the template.
    assert result["requests"] <= 10 * result["places"] + result["secrets"]


@pytest.mark.server
@pytest.mark.alone
def test_upstream_serves_strangers_from_host_memory(upstream: dict[str, Any]) -> None:
    assert upstream["host_tier"]["from_host"] > 0
    assert upstream["host_tier"]["by_count"]["auc"] == 1


@pytest.mark.server
@pytest.mark.alone
def test_a_salt_in_the_body_protects_from_nobody_who_knows_it(upstream: dict[str, Any]) -> None:
    (salt,) = upstream["forgery"]
    assert salt["works"] == salt["tries"]


@pytest.mark.server
@pytest.mark.alone
def test_selective_tells_no_right_guess(selective: dict[str, Any]) -> None:
    assert [each["by_count"]["auc"] for each in selective["membership"].values()] == [0.5] * 3
    for trials in (*selective["counted"], selective["chat"]):
        assert trials["confirmed"] == 0
        assert trials["owner_hits"] == trials["owner_asked"] > 0


@pytest.mark.server
@pytest.mark.alone
@pytest.mark.parametrize("how", ["token by token", "word by word"])
def test_selective_keeps_secrets(selective: dict[str, Any], how: str) -> None:
    assert recovered(selective, how)["separation"]["auc"] == 0.5


@pytest.mark.server
@pytest.mark.alone
def test_selective_keeps_them_in_host_memory(selective: dict[str, Any]) -> None:
    assert selective["host_tier"]["from_host"] == 0
    assert selective["host_tier"]["by_count"]["auc"] == 0.5
    assert selective["host_tier"]["owner_from_host"] > 0


@pytest.mark.server
@pytest.mark.alone
def test_a_server_counts_votes_and_these_tell_no_right_guess_from_a_wrong_one(
    tmp_path: Path,
) -> None:
    told = campaign(VOTES, tmp_path, by_votes)
    assert (told["too few"].confirmed, told["too few"].false) == (0, 0)
    assert told["enough"].confirmed == told["enough"].false == told["enough"].guesses > 0


@pytest.mark.server
@pytest.mark.alone
def test_a_forged_name_opens_only_what_no_key_guards(selective: dict[str, Any]) -> None:
    for forgery in selective["forgery"]:
        assert forgery["works"] == (0 if forgery["bound"] else forgery["tries"])
        assert forgery["refused"] == (forgery["tries"] if forgery["bound"] else 0)


@pytest.mark.server
@pytest.mark.alone
def test_as_many_accounts_as_the_threshold_see_what_nobody_flagged(
    selective: dict[str, Any],
) -> None:
    """The limit of the design, where everything counts as harmless: docs/threat-model.md."""
    told = {
        (case["accounts"], case["content"]): case["confirmed"] - case["false"]
        for case in selective["collusion"]
    }
    for content in ("plain", "flagged"):
        assert [told[accounts, content] for accounts in (1, 2)] == [0, 0]
        assert told[3, content] == EFFORT.collusions


@pytest.mark.server
@pytest.mark.alone
def test_what_is_found_sensitive_is_told_to_nobody(
    rules: dict[str, Any], upstream: dict[str, Any]
) -> None:
    """Although more users hold it than make content public, and although what is in front of it
    is public."""
    found: Flagged = rules["flagged"]
    assert (found.guesses, found.confirmed, found.false) == (EFFORT.flagged, 0, 0)
    assert found.owner_hits == found.owner_asked > 0
    assert found.probes.by_count().auc == 0.5
    assert upstream["flagged"]["confirmed"] == upstream["flagged"]["guesses"] > 0


@pytest.mark.server
@pytest.mark.alone
def test_accounts_that_collude_see_only_what_nobody_flagged(rules: dict[str, Any]) -> None:
    assert rules["plain 3"].confirmed - rules["plain 3"].false == EFFORT.collusions
    assert rules["flagged 3"].confirmed == 0


@pytest.mark.server
@pytest.mark.alone
def test_the_order_of_answers_tells_on_upstream_alone(
    selective: dict[str, Any], upstream: dict[str, Any]
) -> None:
    assert upstream["order"][64]["auc"] > 0.9
    assert selective["order"][64]["auc"] < 0.9


@pytest.mark.server
@pytest.mark.alone
def test_the_monitor_ends_a_probe(selective: dict[str, Any], upstream: dict[str, Any]) -> None:
    aucs = [window["by_count"]["auc"] for window in selective["monitor"]]
    assert (aucs[0], aucs[-1]) == (1, 0.5)
    assert {window["by_count"]["auc"] for window in upstream["monitor"]} == {1}


@pytest.mark.server
@pytest.mark.alone
def test_the_program_judges_by_the_same_figures(selective: dict[str, Any]) -> None:
    judged = {each.name: each.met for each in targets({"selective": selective})}
    assert judged["no right guess confirmed"]
    selective_leaks = selective | {"chat": selective["chat"] | {"confirmed": 1}}
    judged = {each.name: each.met for each in targets({"selective": selective_leaks})}
    assert not judged["no right guess confirmed"]
