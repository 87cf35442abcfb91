"""What a fuzzing campaign ever found, again; a small campaign; and its own parts."""

from __future__ import annotations

import dataclasses
import json
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import pytest
from attack import PAUL, PAULA, Target, target
from campaign import GROUP, from_openapi, recorded
from cases import Case, read
from endpoints import ENDPOINTS, EXCEPTIONS, UPLOAD
from minimize import smallest
from mutate import drawn
from transcript import difference
from typed import fields_of, object_of

CASES, SEED = 256, 20_261_126


@pytest.fixture(scope="module")
def attacked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    with target(tmp_path_factory.mktemp("fuzz")) as started:
        yield started


@pytest.mark.server
def test_requests_that_are_as_they_should_be_are_answered(attacked: Target) -> None:
    statuses = {point.path: attacked.status_of(point.case()) for point in ENDPOINTS}
    assert statuses == {point.path: point.status for point in ENDPOINTS}
    assert attacked.harm() is None


def _routes(routes: Sequence[Any]) -> Iterator[tuple[str, str]]:
    """List method and path of an app's routes, those of its routers too."""
    for route in routes:
        if hasattr(route, "original_router"):
            yield from _routes(route.original_router.routes)
        else:
            for method in getattr(route, "methods", None) or ("GET",):
                yield method, route.path


@pytest.mark.server
def test_each_endpoint_that_a_user_can_ask_is_known(attacked: Target) -> None:
    """Those are all that the app has, but for those that refuse a user's key."""
    from sglang.srt.entrypoints.http_server import app

    known = {(method, point.path) for point in ENDPOINTS for method in point.methods}
    known.add(("POST", UPLOAD))
    asked = {
        (method, path)
        for method, path in _routes(app.routes)
        if method != "HEAD"
        and path not in EXCEPTIONS
        # A path that is refused, or one that is not: what the body holds is looked at later.
        and attacked.status_of(Case(path, method=method)) not in (401, 403)
    }
    assert asked == known


@pytest.mark.server
def test_all_that_a_user_is_told_is_the_same_beside_an_attack(attacked: Target) -> None:
    source = random.Random(SEED + 1)
    alone = attacked.transcript(PAUL)
    beside = attacked.transcript_beside(PAULA, iter(lambda: drawn(source), None))
    assert difference(alone, beside) is None
    assert attacked.harm() is None
    statuses = Counter(status for _, status, _ in alone)
    assert statuses[200] == 16
    assert statuses[400] == 1
    assert statuses[401] == 1  # aborting by an id is for operators
    cached = [said["meta_info"]["cached_tokens"] for _, _, said in alone[:3]]
    assert cached[0] == 0
    assert min(cached[1:]) > 0


@pytest.mark.server
def test_what_was_found_is_repaired(attacked: Target) -> None:
    for cases, fault in recorded():
        assert attacked.fault_of(cases) is None, fault


@pytest.mark.server
def test_what_openapi_says_and_what_it_does_not_ends_well(attacked: Target) -> None:
    cases = list(islice(from_openapi(1, SEED), GROUP))
    assert {case.method for case in cases} >= {"GET", "POST"}
    assert len({case.path for case in cases}) > 10
    assert attacked.fault_of(cases) is None


@pytest.mark.server
def test_a_small_campaign_finds_nothing(attacked: Target) -> None:
    source = random.Random(SEED)
    for _ in range(CASES // GROUP):
        group = [drawn(source) for _ in range(GROUP)]
        fault = attacked.fault_of(group)
        assert fault is None, (fault, group)


def test_transcripts_that_differ_are_told_apart() -> None:
    one = [("/generate", 200, {"text": "a", "logprobs": [-1.0, None]})]
    assert difference(one, json.loads(json.dumps(one))) is None
    for status, text, logprob in ((400, "a", -1.0), (200, "b", -1.0), (200, "a", -1.1)):
        other = [("/generate", status, {"text": text, "logprobs": [logprob, None]})]
        assert difference(one, other)
    assert difference(one, one * 2)


def test_cases_are_drawn_again_from_their_seed() -> None:
    first, second = random.Random(7), random.Random(7)
    cases = [drawn(first) for _ in range(2000)]
    again = [drawn(second) for _ in range(2000)]
    assert repr(cases) == repr(again)
    assert len(set(map(repr, cases))) > 1600
    kinds = Counter(case.path for case in cases)
    assert {point.path for point in ENDPOINTS if point.kind} <= kinds.keys()
    assert sum(case.leaves is not None for case in cases) > 50
    assert sum(case.raw is not None for case in cases) > 50
    assert sum(bool(case.then) for case in cases) > 50


def test_cases_are_read_as_they_were_written() -> None:
    source = random.Random(8)
    for case in [drawn(source) for _ in range(500)]:
        written = json.loads(json.dumps(case.without_defaults()))
        assert repr(read(written)) == repr(case)


def test_objects_are_of_their_class() -> None:
    source = random.Random(9)
    for point in ENDPOINTS:
        if point.kind is None:
            continue
        names = set().union(*(object_of(point.kind, source) for _ in range(200)))
        assert names == fields_of(point.kind).keys()


@pytest.mark.parametrize("faulty", [{3}, {0, 31}, {5, 6}])
def test_a_fault_is_found_in_its_group(faulty: set[int]) -> None:
    group = [Case("/generate", {"n": number, "text": "x"}) for number in range(32)]

    def shows(cases: Sequence[Case]) -> str | None:
        numbers = {case.body.get("n") for case in cases}
        return f"at {min(numbers & faulty)}" if numbers & faulty else None

    cases, fault = smallest(group, "at first", shows)
    assert [case.body for case in cases] == [{"n": min(faulty)}]
    assert fault == f"at {min(faulty)}"


def test_what_shows_a_fault_only_together_stays_together() -> None:
    group = [
        Case("/generate", {"a": {"b": number, "c": [1, 2]}}, headers=(("X", "y"),))
        for number in range(8)
    ]

    def shows(cases: Sequence[Case]) -> str | None:
        held = {case.body.get("a", {}).get("b") for case in cases}
        return "both" if {1, 6} <= held else None

    cases, _ = smallest(group, "both", shows)
    assert cases == [
        dataclasses.replace(case, body={"a": {"b": case.body["a"]["b"]}}, headers=())
        for case in (group[1], group[6])
    ]
