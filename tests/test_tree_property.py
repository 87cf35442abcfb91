"""Random steps on real pools: after each of them the tree shows what the model says, every slot
is in one place and holds the right tokens' KV, and another process decides the same."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from array import array
from collections import Counter
from pathlib import Path

import pytest
from support.engine import Engine, Setting
from support.model import Model, ModelError
from support.play import Play, failure, random_play
from support.replay import digests
from support.shrink import shrink
from support.trees import start_group

STEPS = 120
SEEDS = range(48)
REPLAYED = (0, 3, 5, 8, 11, 14)
TESTS = Path(__file__).parent


@pytest.fixture(autouse=True, scope="module")
def _group(tmp_path_factory: pytest.TempPathFactory) -> None:
    start_group(tmp_path_factory.mktemp("group"))


@pytest.mark.parametrize("seed", SEEDS)
def test_the_tree_does_as_the_model_says(seed: int) -> None:
    setting, steps = random_play(seed, STEPS)
    fault = failure(setting, steps)
    if fault is not None:
        shortest = shrink(steps, lambda candidate: failure(setting, candidate))
        pytest.fail(f"{fault}\n{setting!r}\n{shortest!r}")


def test_the_plays_above_reach_everything() -> None:
    """Or they would prove little."""
    counts: Counter[str] = Counter()
    for seed in SEEDS[:24]:
        setting, steps = random_play(seed, STEPS)
        play = Play(setting)
        play.run(steps)
        counts.update(play.engine.cache.counts)
        counts["loaded"] += play.engine.loaded
        counts["evictions"] += play.evictions
    for event in (
        "promotions",
        "demotions",
        "merges",
        "joins",
        "logical_frees",
        "outlived_prefixes",
        "erasures",
        "loaded",
        "evictions",
    ):
        assert counts[event] > 5, (event, counts)


def test_another_process_decides_the_same() -> None:
    """With other hashes of strings, and a clock that jumps."""
    command = [sys.executable, "-m", "support.replay", str(STEPS), *map(str, REPLAYED)]
    path = os.pathsep.join((str(TESTS), os.environ.get("PYTHONPATH", "")))
    env = os.environ | {"PYTHONHASHSEED": "4711", "PYTHONPATH": path}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
    theirs = json.loads(done.stdout.splitlines()[-1])
    for seed in REPLAYED:
        assert theirs[str(seed)] == digests(seed, STEPS), seed


def test_the_model_notices_a_leak() -> None:
    """A tree in which a stranger's page shows must not pass."""
    setting = Setting(host=False)
    engine, model = Engine(setting), Model(setting)
    task = engine.new_task("ann", array("q", [1] * 8))
    assert engine.admit(task)
    engine.step(task)
    model.insert("ben", None, array("q", [1] * 8), confined=False)
    with pytest.raises(ModelError, match="ann"):
        model.compare(engine.pages(), evicted=True)


def test_the_engine_notices_foreign_bytes() -> None:
    engine = Engine(Setting(host=False))
    task = engine.new_task("ann", array("q", [1] * 8))
    assert engine.admit(task)
    engine.step(task)
    engine.check()
    engine.kv.k_buffer[0][engine.row(task)[3], 0, 0] += 1
    with pytest.raises(AssertionError, match="KV of other tokens"):
        engine.check()
