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
from support.faults import Events, find_fault
from support.model import Model, ModelError
from support.replay import digests
from support.trees import start_group

PLAYS = range(100, 212)  # seeds that together reach all that is asked for below
STEPS = 120
REPLAYED = (0, 3, 5, 8, 11, 14, 20)
TESTS = Path(__file__).parent


@pytest.fixture(autouse=True, scope="module")
def _group(tmp_path_factory: pytest.TempPathFactory) -> None:
    start_group(tmp_path_factory.mktemp("group"))


def test_the_tree_does_as_the_model_says() -> None:
    events: Events = Counter()
    for seed in PLAYS:
        fault = find_fault(seed, 100, events)
        assert fault is None, fault
    # Or it would prove little.
    for event in (
        "promotions",
        "demotions",
        "merges",
        "joins",
        "logical_frees",
        "outlived_prefixes",
        "erasures",
        "loaded_tokens",
        "evictions",
        "over_share",
        "late_verdicts",
        "fetched_pages",
        "told",
        "by_word_of_others",
        "by_votes",
    ):
        assert events[event] > 5, (event, events)


def test_another_process_decides_the_same() -> None:
    """With other hashes of strings, and a clock that jumps."""
    command = [sys.executable, "-m", "support.replay", str(STEPS), *map(str, REPLAYED)]
    path = os.pathsep.join((str(TESTS), os.environ.get("PYTHONPATH", "")))
    env = os.environ | {"PYTHONHASHSEED": "4711", "PYTHONPATH": path}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
    theirs = json.loads(done.stdout.splitlines()[-1])
    for play in REPLAYED:
        assert theirs[str(play)] == digests(play, STEPS), play


def test_the_model_notices_a_leak() -> None:
    """A tree in which a stranger's page shows must not pass."""
    setting = Setting(host=False)
    engine, model = Engine(setting), Model(setting)
    task = engine.new_task("ann", array("q", [1] * 8))
    assert engine.admit(task)
    engine.step(task)
    model.insert("ben", None, array("q", [1] * 8), no_promote=False)
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
