"""What a fuzzing campaign ever found, again; a small campaign; and its own parts."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence

import pytest
from attack import Target, target
from campaign import FOUND, GROUP, smallest
from endpoints import ENDPOINTS, Case, mutated

CASES, SEED = 480, 20_261_126


@pytest.fixture(scope="module")
def attacked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    with target(tmp_path_factory.mktemp("fuzz")) as started:
        yield started


@pytest.mark.server
def test_requests_that_are_as_they_should_be_are_answered(attacked: Target) -> None:
    assert attacked.fault_of([Case(point.path, point.request) for point in ENDPOINTS]) is None


@pytest.mark.server
def test_what_was_found_is_repaired(attacked: Target) -> None:
    lines = FOUND.read_text().splitlines() if FOUND.exists() else []
    for entry in map(json.loads, lines):
        case = Case(entry["path"], entry["body"])
        assert attacked.fault_of([case]) is None, entry


@pytest.mark.server
def test_a_small_campaign_finds_nothing(attacked: Target) -> None:
    drawn = random.Random(SEED)
    for _ in range(CASES // GROUP):
        group = [mutated(drawn) for _ in range(GROUP)]
        fault = attacked.fault_of(group)
        assert fault is None, (fault, group)


def test_cases_are_drawn_again_from_their_seed() -> None:
    first, second = random.Random(7), random.Random(7)
    cases = [mutated(first) for _ in range(200)]
    again = [mutated(second) for _ in range(200)]
    assert repr(cases) == repr(again)
    assert {case.path for case in cases} >= {"/generate", "/v1/chat/completions"}
    assert len({repr(case.body) for case in cases}) > 150


@pytest.mark.parametrize("faulty", [{3}, {0, 31}, {5, 6}])
def test_a_fault_is_found_in_its_group(faulty: set[int]) -> None:
    group = [Case("/generate", {"n": number}) for number in range(32)]

    def shows(cases: Sequence[Case]) -> str | None:
        numbers = {case.body["n"] for case in cases}
        return f"at {min(numbers & faulty)}" if numbers & faulty else None

    cases, fault = smallest(group, "at first", shows)
    assert [case.body["n"] for case in cases] == [min(faulty)]
    assert fault == f"at {min(faulty)}"
