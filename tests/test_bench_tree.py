"""The benchmark of the tree runs, on tiny trees, and leaves what it promises behind."""

from __future__ import annotations

import json
import runpy
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
MODES = ["shared", "isolated", "selective"]
OPERATIONS = [
    "match 812 tokens",
    "match 21 tokens",
    "evict one leaf",
    "insert 812 tokens",
    "insert 21 tokens",
    "request of the mixed trace",
]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder that a run wrote its results to."""
    out = tmp_path_factory.mktemp("bench") / "results"
    sizes = ["--leaves", "30", "60", "--users", "1", "40", "--flat", "30", "60"]
    sizes += ["--batches", "6", "--memory-leaves", "1000"]
    threads, path = torch.get_num_threads(), list(sys.path)
    sys.path.insert(0, str(BENCHMARKS))
    try:
        main = runpy.run_path(str(BENCHMARKS / "tree.py"))["main"]
        main(["--quick", *sizes, "--modes", *MODES, "--out", str(out)])
        yield out
    finally:
        sys.path[:] = path
        torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def results(written: Path) -> Any:
    return json.loads((written / "tree.json").read_text())


@pytest.mark.slow
def test_every_operation_was_timed_on_every_tree(results: Any) -> None:
    shapes = [(run["leaves"], run["users"]) for run in results["runs"]]
    assert shapes == [(30, 1), (60, 1), (60, 40)]
    for run in results["runs"]:
        # Without owners the number of users changes nothing: it is timed once.
        ours = MODES if run["users"] == 1 else MODES[1:]
        assert list(run["operations"]) == OPERATIONS
        assert list(run["cached_tokens"]) == ["upstream", *ours]
        for times in run["operations"].values():
            assert list(times["us"]) == ["upstream", *ours]
            assert list(times["ratio"]) == ours
            assert all(value > 0 for value in (*times["us"].values(), *times["ratio"].values()))
            assert times["batches"] in (5, 6)  # 5 where the time was up


@pytest.mark.slow
def test_evictions_are_compared_between_sizes(results: Any) -> None:
    assert [run["mode"] for run in results["flat"]] == MODES
    assert all(run["ratio"] > 0 for run in results["flat"])


@pytest.mark.slow
def test_conversations_of_an_owner_take_few_nodes(results: Any) -> None:
    nodes = results["nodes_per_talk"]
    assert nodes["upstream"]["left"] == nodes["shared"]["left"] == 100  # a prompt, an answer
    for mode in ("isolated", "selective"):
        assert nodes[mode]["matched"] <= nodes[mode]["left"] <= 10


@pytest.mark.slow
def test_nodes_are_weighed(results: Any) -> None:
    upstream = results["bytes_per_node"].pop("upstream")
    assert list(results["bytes_per_node"]) == MODES
    assert all(upstream / 2 < ours <= upstream * 1.2 for ours in results["bytes_per_node"].values())


@pytest.mark.slow
def test_what_a_crowd_costs_is_measured(results: Any) -> None:
    crowded = results["crowded"]
    assert 0 < crowded["promotion_ms"] < 10
    assert 0 < crowded["stats_ms"] < 50
    assert list(crowded["found_again"]) == ["upstream", *MODES]
    assert crowded["found_again"]["upstream"] == crowded["found_again"]["shared"] == 1


@pytest.mark.slow
def test_votes_are_timed_beside_counted_users(results: Any) -> None:
    votes = results["votes"]
    assert list(votes["us"]) == ["selective, count", "selective, dp"]
    assert len(set(votes["cached_tokens"].values())) == 1
    assert 0.5 < votes["ratio"] < 2
    assert 0 < votes["end_of_window_ms"] < 1_000


@pytest.mark.slow
def test_with_the_flag_off_the_registry_builds_upstreams_class(results: Any) -> None:
    off = results["tenant_cache_off"]
    assert off["is_upstreams"]
    assert off["class"] == "sglang.srt.mem_cache.hiradix_cache.HiRadixCache"
    assert "sglang.srt.mem_cache.radix_cache" in off["modules"]
    assert (
        off["class_when_on"]
        == "sglang.srt.tenancy.cache.adapters.hiradix.hiradix.TenantHiRadixCache"
    )


@pytest.mark.slow
def test_every_target_has_a_verdict_and_none_for_what_was_not_measured(results: Any) -> None:
    verdicts = {
        (target["name"], target["mode"]): target["reached"] for target in results["targets"]
    }
    assert len(verdicts) == len(results["targets"])
    for operation in ("match 812", "match 21", "insert 812", "insert 21"):
        for mode in MODES:
            assert verdicts[f"{operation} tokens, one user, x upstream", mode] in (True, False)
    assert verdicts["evict one leaf of 10,000, times faster", "selective"] is None
    assert verdicts["evict one leaf, 100,000 leaves x 1,000", "selective"] is None
    for bounded in (
        "promotion of 8,000 tokens, 65,536 blocked, ms",
        "stats of 100,000 owners, ms",
        "found again after 60 one-off users, x upstream",
    ):
        assert verdicts[bounded, "selective"] in (True, False)
    assert verdicts["tenant cache off: upstream's own class", "off"] is True


@pytest.mark.slow
def test_the_picture_is_one(written: Path) -> None:
    picture = (written / "tree.png").read_bytes()
    assert picture.startswith(b"\x89PNG")
    assert len(picture) > 20_000
