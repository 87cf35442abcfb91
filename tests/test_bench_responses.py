"""The attacks of benchmarks/side_channel.py on the response cache.

Of a real server, headers, ids and counts are asserted, never times: those are for a quiet machine.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from attacks.cached_responses import (
    ATTACKS,
    Attack,
    Guesses,
    Scene,
    attack_responses,
    figures,
    flags,
)
from attacks.response_figure import draw
from attacks.response_targets import summary, targets
from report.target import Target
from serving.completions import Completion, CompletionsClient
from serving.prompts import Prompts
from serving.server import ISOLATED, Model, running

RESULTS = Path(__file__).parent.parent / "benchmarks" / "results" / "side_channel_responses.json"
WANTED = 3  # right guesses in each attack on the server
MANY = 20  # in the made-up ones
PLAIN = ATTACKS[0]
(UNDER_WAY,) = (attack for attack in ATTACKS if attack.under_way)
(FREE,) = (attack for attack in ATTACKS if attack.works)
NOT_TOLD, ALIKE = "no right guess answered as the victim was", "right and wrong guesses look alike"
SILENT = "AUC by time silent"
AGAIN, FELT = "the victim is given the first answer again", "second requests above"
REFUSED = {
    "victim in user_id": "403 -",
    "victim in the header": "403 -",
    "no key, victim in user_id": "401 -",
}


def completions(kind: str, **fields: Any) -> list[Completion]:
    """Make computed answers; they take 100 to 119 ms, each another time."""
    miss = Completion(200, 0.1, "MISS", None, frozenset({"x-cache"}), None, 0)
    return [
        replace(miss, **{"id": f"{kind}-{n}", "seconds": 0.1 + n / 1000, **fields})
        for n in range(MANY)
    ]


def hits(kind: str) -> list[Completion]:
    names = frozenset({"x-cache", "age"})
    return completions(kind, cache="HIT", age="0", names=names, seconds=0.001)


def private() -> Guesses:
    """What a cache that keeps users apart answers."""
    return Guesses(
        completions("right"), completions("wrong"), completions("victim"), hits("victim")
    )


def missed(guesses: Guesses, attack: Attack = PLAIN) -> set[str]:
    """Return the targets that these answers miss."""
    result = json.loads(json.dumps(figures(attack, guesses, 1)))
    return {each.name for each in targets({attack.name: result}) if not each.met}


def test_what_keeps_users_apart_meets_every_target() -> None:
    judged = targets({"plain": figures(PLAIN, private(), 1)})
    assert [each.met for each in judged] == [True] * 5
    assert FELT in judged[-1].name


@pytest.mark.parametrize(
    "told", [{"cache": "HIT"}, {"age": "3"}, {"cached": 7}, {"id": "victim-3"}], ids=str
)
def test_one_answer_that_tells_is_enough(told: dict[str, Any]) -> None:
    guesses = private()
    guesses.right[-1] = replace(guesses.right[-1], **told)
    # An id is like none of the others anyway.
    assert missed(guesses) == ({NOT_TOLD} if "id" in told else {NOT_TOLD, ALIKE})


def test_a_header_more_is_noticed() -> None:
    guesses = private()
    guesses.right[0] = replace(guesses.right[0], names=frozenset({"x-cache", "etag"}))
    assert missed(guesses) == {ALIKE}


def test_time_alone_is_noticed() -> None:
    guesses = private()
    guesses.right = completions("right", seconds=0.05)
    assert missed(guesses) == {SILENT}


def test_few_guesses_are_not_judged_by_time() -> None:
    guesses = private()
    guesses.right, guesses.wrong = completions("right", seconds=0.05)[:9], guesses.wrong[:9]
    assert missed(guesses) == set()


def test_a_victim_who_finds_nothing_proves_nothing() -> None:
    guesses = private()
    guesses.again = completions("again")
    (slow,) = missed(guesses) - {AGAIN}
    assert FELT in slow
    guesses.again = hits("of somebody else")
    assert missed(guesses) == {AGAIN}


def test_what_was_kept_by_then_was_not_under_way() -> None:
    guesses = private()
    assert missed(guesses, UNDER_WAY) == {"of that, while it was computed"}
    guesses.again = [replace(each, age=None) for each in guesses.again]
    assert missed(guesses, UNDER_WAY) == set()


def test_an_attack_that_must_work_is_asked_to() -> None:
    guesses = private()
    assert len(missed(guesses, FREE)) == 2
    guesses.right = hits("victim")
    assert missed(guesses, FREE) == set()
    guesses.wrong[0] = replace(guesses.wrong[0], cache="HIT")
    assert missed(guesses, FREE) == {"wrong ones that were"}


def test_the_picture_and_the_table_have_every_attack(tmp_path: Path) -> None:
    results = {attack.name: figures(attack, private(), 2) for attack in ATTACKS}
    draw(results, tmp_path / "picture.png")
    assert (tmp_path / "picture.png").stat().st_size > 10_000
    assert all(attack.name in summary(results) for attack in ATTACKS)


def test_what_was_published_met_its_targets() -> None:
    report = json.loads(RESULTS.read_text())
    assert set(report["attacks"]) == {attack.name for attack in ATTACKS}
    assert [row for row in report["targets"] if not row["met"]] == []
    rows = [(each.about["attack"], each.name, each.met) for each in targets(report["attacks"])]
    assert rows == [(row["attack"], row["target"], row["met"]) for row in report["targets"]]


@pytest.fixture(scope="module")
def attacked(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("responses")

    async def run(url: str) -> dict[str, Any]:
        async with CompletionsClient(url) as client:
            return await attack_responses(Scene(client, Prompts(1)), WANTED)

    with running(Model(folder / "tiny", "tiny"), ISOLATED, flags(folder)) as url:
        return asyncio.run(run(url))


def without_times(results: dict[str, Any]) -> Sequence[Target]:
    times = ("AUC", "while it was computed")
    return [each for each in targets(results) if not any(name in each.name for name in times)]


@pytest.mark.server
def test_nothing_is_told_to_somebody_else(attacked: dict[str, Any]) -> None:
    judged = without_times(attacked)
    assert len(judged) == 3 * (len(ATTACKS) - 1) + 2
    assert [each for each in judged if not each.met] == []


@pytest.mark.server
def test_some_guesses_come_while_the_answer_is_computed(attacked: dict[str, Any]) -> None:
    assert attacked[UNDER_WAY.name]["owner_joined"] > 0


@pytest.mark.server
@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_who_asks_is_seen_in_the_answer(attacked: dict[str, Any], attack: Attack) -> None:
    result = attacked[attack.name]
    nobody = attack.name in ("no key", "no key, victim in the header")
    computed = REFUSED.get(attack.name, "200 BYPASS" if nobody else "200 MISS")
    assert result["answers_wrong"] == {computed: WANTED}
    assert result["answers_right"] == {"200 HIT" if attack.works else computed: WANTED}
    assert result["owner_hits"] == result["owner_asked"] >= WANTED
