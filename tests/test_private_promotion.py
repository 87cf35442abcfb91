"""Votes decide what becomes public: whose, for what, when they count, and what they may tell."""

from __future__ import annotations

import itertools
import math
from array import array
from collections.abc import Iterable
from dataclasses import replace

import pytest
from colluding.server import Server
from support.core_engine import Key

from sglang.srt.tenancy.cache.core import report
from sglang.srt.tenancy.cache.core.elsewhere import Elsewhere
from sglang.srt.tenancy.cache.core.options import PolicyOptions
from sglang.srt.tenancy.cache.core.vote_threshold import VoteThreshold, advantage_bound
from sglang.srt.tenancy.namespace import Namespace

DOCUMENT = tuple(range(100, 132))
# Thresholds of 3 and 4 only, so that tests need no luck.
OPTIONS = PolicyOptions(
    detector="off-trust-all",
    promotion="dp",
    dp_epsilon=1.0,
    dp_delta=0.9,
    dp_window=1_000,
    dp_period=2,
)
ENOUGH, TOO_FEW = 4, 2
fresh = itertools.count(1_000_000)


def server(**changed: object) -> Server:
    return Server(replace(OPTIONS, **changed), b"secret")  # type: ignore[arg-type]


def ask_in_two_ways(cache: Server, user: str, text: Iterable[int] = DOCUMENT) -> None:
    for _ in range(2):
        cache.ask(user, (*text, next(fresh), next(fresh)))


def end_window(cache: Server) -> None:
    budget = cache.core.sharing.memory.budget
    assert budget is not None
    cache.end_window(budget.window)


def seen_by_a_stranger(cache: Server, text: Iterable[int] = DOCUMENT) -> int:
    return cache.probe("stranger", (*text, next(fresh)))


# The threshold


@pytest.mark.parametrize("epsilon", [0.01, 0.1, 0.5, 1.0, 2.0, 5.0])
@pytest.mark.parametrize("delta", [1e-12, 1e-5, 0.01])
def test_one_vote_changes_no_chance_by_more_than_promised(epsilon: float, delta: float) -> None:
    threshold = VoteThreshold(epsilon, delta, least=3)
    factor, slack = math.exp(epsilon), 1e-12
    assert threshold.chance(2) == 0 < threshold.chance(3) <= delta + slack
    assert threshold.chance(threshold.most) == 1
    for votes in range(threshold.most + 1):
        public, one_more = threshold.chance(votes), threshold.chance(votes + 1)
        assert public <= one_more <= factor * public + delta + slack
        assert 1 - public <= factor * (1 - one_more) + delta + slack
    assert threshold.sharpest <= advantage_bound(epsilon, delta)


def test_thresholds_come_as_often_as_they_should() -> None:
    threshold = VoteThreshold(1.0, 1e-3, least=3)
    draws = [threshold.at((n + 0.5) / 100_000) for n in range(100_000)]
    assert (min(draws), max(draws)) == (threshold.least, threshold.most)
    for votes in range(threshold.least, threshold.most + 1):
        share = sum(draw <= votes for draw in draws) / len(draws)
        assert share == pytest.approx(threshold.chance(votes), abs=1e-4)


def test_the_bound_on_an_attack_is_the_known_one() -> None:
    assert advantage_bound(1.0, 0.0) == pytest.approx(math.tanh(0.5))
    assert advantage_bound(1.0, 0.01) == pytest.approx((math.e - 1 + 0.02) / (math.e + 1))
    assert advantage_bound(2_000.0, 0.0) == 1.0


# When votes count, and for what


def test_nothing_is_public_before_the_window_ends() -> None:
    cache = server()
    for number in range(20):
        ask_in_two_ways(cache, f"u{number}")
        assert seen_by_a_stranger(cache) == 0
    end_window(cache)
    assert seen_by_a_stranger(cache) == len(DOCUMENT)


def test_votes_are_for_what_a_users_requests_have_in_common_and_no_token_more() -> None:
    cache = server()
    for number in range(ENOUGH):
        for way in range(2):
            cache.ask(f"u{number}", (*DOCUMENT, 7 + way, 8, 9))
    end_window(cache)
    assert seen_by_a_stranger(cache, (*DOCUMENT, 7, 8, 9)) == len(DOCUMENT)


def test_who_asks_once_or_goes_on_with_a_conversation_does_not_vote() -> None:
    cache = server()
    for number in range(3 * ENOUGH):
        cache.ask(f"u{number}", DOCUMENT)
        cache.ask(f"u{number}", (*DOCUMENT, 1, 2, 3))
    end_window(cache)
    assert seen_by_a_stranger(cache) == 0


def test_fewer_than_public_users_are_never_enough() -> None:
    cache = server(dp_votes=1)
    for _ in range(20):
        for number in range(TOO_FEW):
            ask_in_two_ways(cache, f"u{number}")
        end_window(cache)
    assert seen_by_a_stranger(cache) == 0


def test_votes_of_one_window_are_not_added_to_those_of_another() -> None:
    cache = server(dp_period=1_000)
    for number in range(10 * ENOUGH):
        ask_in_two_ways(cache, f"u{number}")
        if number % TOO_FEW == TOO_FEW - 1:
            end_window(cache)
    assert seen_by_a_stranger(cache) == 0


def test_the_budget_of_a_user_is_for_a_period() -> None:
    cache = server()
    other = tuple(range(200, 232))
    users = [f"u{number}" for number in range(ENOUGH)]
    for text in (DOCUMENT, other):
        for user in users:
            ask_in_two_ways(cache, user, text)
    end_window(cache)
    for user in users:
        ask_in_two_ways(cache, user, other)
    end_window(cache)
    assert seen_by_a_stranger(cache) == len(DOCUMENT)
    assert seen_by_a_stranger(cache, other) == 0
    for user in users:
        ask_in_two_ways(cache, user, other)
    end_window(cache)
    assert seen_by_a_stranger(cache, other) == len(other)


def test_a_flush_gives_no_budget_back_and_forgets_the_votes() -> None:
    cache = server()
    for number in range(ENOUGH):
        ask_in_two_ways(cache, f"u{number}")
    cache.flush()
    for number in range(ENOUGH):
        ask_in_two_ways(cache, f"u{number}")
    end_window(cache)
    assert seen_by_a_stranger(cache) == 0


# Whose votes


def test_an_account_has_one_vote_for_a_text_and_those_without_a_name_one_together() -> None:
    cache = server(dp_votes=10)
    for _ in range(5):
        ask_in_two_ways(cache, "u0")
        ask_in_two_ways(cache, "?anonymous")
        for number in range(ENOUGH):
            ask_in_two_ways(cache, f"server:{number}")
    end_window(cache)
    assert seen_by_a_stranger(cache) == 0


def test_whose_copy_is_gone_does_not_count() -> None:
    cache = server()
    for number in range(2 * ENOUGH):
        ask_in_two_ways(cache, f"u{number}")
    for number in range(2 * ENOUGH - TOO_FEW):
        cache.erase(f"u{number}")
    end_window(cache)
    assert seen_by_a_stranger(cache) == 0


def test_an_erased_user_is_in_no_ballot_and_has_no_vote_more() -> None:
    cache = server()
    for number in range(ENOUGH):
        ask_in_two_ways(cache, f"u{number}")
    votes = report.stats(cache.core, 0)["votes"]
    assert (votes["windows"], votes["prefixes"], votes["votes"]) == (0, 1, ENOUGH)
    assert votes["requests_left"] == OPTIONS.dp_window - 2 * ENOUGH
    cache.core.erase("u0")
    cache.core.erase("u0")
    assert report.stats(cache.core, 0)["votes"]["votes"] == ENOUGH - 1
    ask_in_two_ways(cache, "u0")  # the vote of this period is spent
    assert report.stats(cache.core, 0)["votes"]["votes"] == ENOUGH - 1
    for number in range(1, ENOUGH):
        cache.core.erase(f"u{number}")
    assert report.stats(cache.core, 0)["votes"]["prefixes"] == 0
    end_window(cache)
    assert seen_by_a_stranger(cache) == 0


def test_where_users_are_counted_there_are_no_votes() -> None:
    assert report.stats(server(promotion="count").core, 0)["votes"] is None


def test_each_vote_needs_a_scan_result_of_its_own() -> None:
    cache = server(detector="rules")
    for number in range(2 * ENOUGH):
        user = f"u{number}"
        ask_in_two_ways(cache, user)
        if number < TOO_FEW:
            judge(cache, user, harmless=len(DOCUMENT))
        elif number < ENOUGH:
            judge(cache, user, harmless=len(DOCUMENT) - 1)
    end_window(cache)
    assert seen_by_a_stranger(cache) == 0


def test_what_is_found_with_somebody_else_is_no_reason_against_it() -> None:
    """Or an attacker who plants it would see that somebody goes on with something sensitive."""
    cache = server(detector="rules")
    for number in range(ENOUGH + 1):
        ask_in_two_ways(cache, f"u{number}")
        judge(cache, f"u{number}", harmless=len(DOCUMENT))
    judge(cache, "u0", harmless=len(DOCUMENT) - 1, sensitive=len(DOCUMENT) - 1)
    end_window(cache)
    assert seen_by_a_stranger(cache) == len(DOCUMENT)


def judge(cache: Server, user: str, harmless: int, sensitive: int | None = None) -> None:
    key = Key(array("q", (*DOCUMENT, 1)), Namespace(user, None))
    cache.core.apply_scan_result(key, harmless, sensitive)


# What else could tell


def test_hits_of_few_users_demote_nothing() -> None:
    cache = server(rdr_threshold=0.5, rdr_min_hits=4)
    for number in range(ENOUGH):
        ask_in_two_ways(cache, f"u{number}")
    end_window(cache)
    for _ in range(50):
        cache.ask("u0", (*DOCUMENT, next(fresh)))
    assert seen_by_a_stranger(cache) == len(DOCUMENT)
    assert cache.core.counts.get("demotions", 0) == 0


def test_the_word_of_another_replica_makes_nothing_public() -> None:
    """Or the first user here of what is public there would be seen."""
    cache = server()
    heard = Elsewhere(1).hashes(None, array("q", DOCUMENT), [len(DOCUMENT)])
    cache.core.sharing.memory.elsewhere.learn(heard, [])
    ask_in_two_ways(cache, "u0")
    assert seen_by_a_stranger(cache) == 0


def test_what_an_operator_registers_is_public_at_once() -> None:
    cache = server()
    cache.core.publish(DOCUMENT)
    cache.ask("u0", (*DOCUMENT, 1))
    assert seen_by_a_stranger(cache) == len(DOCUMENT)


def test_ranks_with_one_secret_decide_alike_and_other_secrets_otherwise() -> None:
    def public(secret: bytes) -> list[int]:
        cache = Server(replace(OPTIONS, dp_votes=1), secret)
        texts = [tuple(range(1000 * n, 1000 * n + 8)) for n in range(1, 41)]
        for number, text in enumerate(texts):
            for user in range(3):
                ask_in_two_ways(cache, f"{number}-{user}", text)
        end_window(cache)
        return [seen_by_a_stranger(cache, text) for text in texts]

    first = public(b"one")
    assert first == public(b"one")
    assert first != public(b"another")
    assert 0 < sum(map(bool, first)) < 40
