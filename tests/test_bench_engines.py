"""The benchmark of engines: they are asked the same, and say the same, as fast as they can.

What is asserted are tokens and counts of cached tokens, never times.
"""

from __future__ import annotations

import itertools
import json
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import engines
import pytest
from engine_speed import ROOT, hf_process, upstream_wheel
from engine_speed.agreement import Difference, agreement, differences
from engine_speed.contenders import IN_ISOLATED, IN_SELECTIVE, WHEEL
from engine_speed.engine import HF, HF_KEPT, HF_PADDED, HfEngine, HfKept, HfPadded, Reply
from engine_speed.figures import figures, times_faster
from engine_speed.lever import common_prefix
from engine_speed.load import CONVERSATION, CROWD, DOCUMENT, LOADS, Extent, Load, make
from engine_speed.rounds import Played, in_turns
from workloads.request import Request

from patchqueue import wheel
from patchqueue.repository import Repository

SMALL = Extent(talks=2, turns=3, readers=6, crowd=4).scaled(0.3)


async def last_tokens(prompt: Sequence[int], output: int) -> list[int]:
    """A reference that is easy to know again."""
    return [(len(prompt) + at) % 256 for at in range(output)]


@pytest.mark.parametrize("name", LOADS)
async def test_a_workload_is_the_same_each_time(name: str) -> None:
    first, again, other = [await make(name, SMALL, seed, last_tokens) for seed in (1, 1, 2)]
    assert first == again
    assert first.requests != other.requests


async def test_a_turn_is_sent_with_all_before_it() -> None:
    load = await make(CONVERSATION, SMALL, 1, last_tokens)
    talk = [
        (tuple(request.prompt), tuple(answer))
        for request, answer in zip(load.requests, load.answers, strict=True)
        if request.user == "user-1"
    ]
    assert len(talk) == SMALL.turns
    for (prompt, answer), (later, _) in itertools.pairwise(talk):
        assert later[: len(prompt) + len(answer)] == prompt + answer


async def test_readers_share_the_document_and_a_crowd_nothing() -> None:
    read, crowd = [await make(name, SMALL, 1, last_tokens) for name in (DOCUMENT, CROWD)]
    assert len(common_prefix([r.prompt for r in read.requests])) >= SMALL.document
    assert len(common_prefix([r.prompt for r in crowd.requests])) == 1  # the chat's marker
    assert len({r.user for r in read.requests}) == SMALL.readers
    assert crowd.at_once
    assert not read.at_once


def played(*rounds: tuple[float, Sequence[Reply]]) -> list[Played]:
    return [Played(replies, seconds) for seconds, replies in rounds]


ONE = Load("one", [Request(0.0, "u", (1, 2, 3, 4), 2)] * 2, [(5, 6), (7, 8)])


def test_figures_are_of_all_requests_and_of_rounds() -> None:
    same = [Reply(0.010, (5, 6), 1), Reply(0.030, (7, 8), 3)]
    found = figures(played((2.0, same), (2.0, same)), ONE)
    assert found["ttft_p50"] == pytest.approx({"value": 20, "low": 20, "high": 20})
    assert found["tokens_per_second"] == pytest.approx({"value": 2, "low": 2, "high": 2})
    assert found["cached_share"] == pytest.approx(0.5)
    faster = times_faster(played((2.0, same), (1.0, same)), played((4.0, same), (2.0, same)))
    assert faster == pytest.approx({"value": 2, "low": 2, "high": 2})


async def test_an_answer_that_differs_is_found() -> None:
    same, other = [Reply(0.0, (5, 6)), Reply(0.0, (7, 8))], [Reply(0.0, (5, 6)), Reply(0.0, (7, 9))]
    rounds = played((1.0, same), (1.0, other), (1.0, other))
    assert differences(ONE, rounds) == [Difference(1, 1)]
    asked = []

    async def margin(tokens: Sequence[int]) -> float:
        asked.append(list(tokens))
        return 0.25

    found = await agreement(ONE, rounds, margin)
    assert (found["equal"], found["answers"], found["margins"]) == (4, 6, [0.25])
    assert asked == [[1, 2, 3, 4, 7]]


def test_an_answer_that_is_too_short_is_no_answer() -> None:
    with pytest.raises(ValueError, match="longer"):
        differences(ONE, played((1.0, [Reply(0.0, (5,)), Reply(0.0, (7, 8))])))


@pytest.mark.slow
async def test_generate_says_the_same_in_each_way(tiny_model: Path) -> None:
    async with hf_process.running(tiny_model, 1) as hf:
        ways = [HfEngine(hf), HfKept(hf), HfPadded(hf)]
        for name in LOADS:
            load = await make(name, SMALL, 1, hf.answer)
            found = await in_turns(ways, load, 1)
            assert set(found) == {way.name for way in ways if name in way.loads}
            for rounds in found.values():
                assert differences(load, rounds) == []
                assert all(reply.ttft > 0 for each in rounds for reply in each.replies)
        assert await hf.margin([1, 2, 3]) > 0


@pytest.mark.slow
async def test_a_generator_that_cannot_start_says_why(tmp_path: Path) -> None:
    with pytest.raises(hf_process.GeneratorEnded, match=r"config\.json"):
        async with hf_process.running(tmp_path, 1):
            pass


@pytest.mark.slow
def test_the_wheel_beside_the_fork_is_upstreams() -> None:
    package = upstream_wheel.unpacked()
    repository = Repository(ROOT)
    with zipfile.ZipFile(wheel.fetch(repository, wheel.native_name(repository))) as archive:
        names = [n for n in archive.namelist() if n.startswith("sglang/") and not n.endswith("/")]
        changed = {n for n in names if (package / n).read_bytes() != archive.read(n)}
    assert changed == {"sglang/srt/utils/common.py"}
    found = {path.relative_to(package).as_posix() for path in package.rglob("*.py")}
    added = found - set(names)
    assert added
    assert all(path.startswith(upstream_wheel.PLATFORM) for path in added)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A small run, with each kind of server."""
    folder = tmp_path_factory.mktemp("engines")
    contenders = (WHEEL, IN_ISOLATED, IN_SELECTIVE)
    arguments = ["--quick", "--rounds", "2", "--size", "tiny", "--out", str(folder)]
    engines.main([*arguments, "--model", str(folder / "model")], contenders)
    assert (folder / "engines.png").stat().st_size > 10_000
    assert (folder / "engines.md").read_text().count("| selective |") == len(LOADS)
    return dict(json.loads((folder / "engines.json").read_text()))


@pytest.mark.server
def test_all_say_the_same(report: dict[str, Any]) -> None:
    assert set(report["workloads"]) == set(LOADS)
    for name, workload in report["workloads"].items():
        both = {HF, WHEEL.name, IN_ISOLATED.name, IN_SELECTIVE.name}
        more = {CONVERSATION: {HF_KEPT}, CROWD: {HF_PADDED}}.get(name, set())
        assert set(workload["engines"]) == both | more
        for engine in workload["engines"].values():
            same = engine["agreement"]
            assert same["answers"] == 2 * workload["requests"]
            assert same["equal"] == same["answers"] or max(same["margins"]) < 1e-3


@pytest.mark.server
def test_what_is_found_cached_is_what_a_mode_shares(report: dict[str, Any]) -> None:
    shares = {
        name: {engine: each["cached_share"] for engine, each in workload["engines"].items()}
        for name, workload in report["workloads"].items()
    }
    read = shares[DOCUMENT]
    assert read[WHEEL.name] > 0.6
    assert read[IN_ISOLATED.name] == 0
    assert read[HF] is None
    assert 0 <= read[IN_SELECTIVE.name] < read[WHEEL.name]
    talk = shares[CONVERSATION]
    assert talk[WHEEL.name] == talk[IN_ISOLATED.name] == talk[IN_SELECTIVE.name] > 0.4
