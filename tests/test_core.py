"""The policy runs without an engine: it imports none, and passes the random plays on its own."""

from __future__ import annotations

import ast
import random
import subprocess
import sys
import time
from array import array
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from support.core_engine import CoreEngine
from support.engine import Setting
from support.play import Play, random_play

import sglang.srt.tenancy.cache.core as core
from sglang.srt.tenancy.cache.adapters.hiradix.hiradix import TenantHiRadixCache
from sglang.srt.tenancy.cache.adapters.hiradix.radix import TenantRadixCache

CORE = Path(core.__path__[0])
PYTHON = CORE.parents[4]  # what holds the package's own files
STEPS = 100

# Imports all of the core where neither torch nor anything of upstream's can be found.
ALONE = """
import importlib, sys, types
from pathlib import Path

own = Path(sys.argv[1])
for name in ("sglang", "sglang.srt", "sglang.srt.tenancy"):
    package = types.ModuleType(name)
    package.__path__ = [str(own / name.replace(".", "/"))]
    sys.modules[name] = package
sys.modules["torch"] = None
for module in sorted((own / "sglang/srt/tenancy/cache/core").glob("*.py")):
    importlib.import_module(f"sglang.srt.tenancy.cache.core.{module.stem}")
print(*sorted(name for name in sys.modules if name.startswith("sglang.")))
"""


def test_the_core_imports_no_engine() -> None:
    done = subprocess.run(
        [sys.executable, "-c", ALONE, str(PYTHON)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    loaded = done.stdout.split()
    assert len(loaded) > 25
    assert all(name.startswith("sglang.srt.tenancy") or name == "sglang.srt" for name in loaded)


@pytest.mark.parametrize("cache", [TenantRadixCache, TenantHiRadixCache])
def test_no_method_of_ours_is_overridden_by_ours(cache: type) -> None:
    defined = Counter(
        name
        for base in cache.__mro__
        if base.__module__.startswith("sglang.srt.tenancy")
        for name, value in vars(base).items()
        if callable(value) and not _only_declares(base, name)
    )
    again = {name for name, times in defined.items() if times > 1}
    # The host tier's part of a start, and of a match: each calls what stands above it.
    assert again <= {"__init__", "match_prefix"}


def _only_declares(base: type, name: str) -> bool:
    """A method that each cache must define, or what a class has by being one."""
    source = Path(sys.modules[base.__module__].__file__ or "").read_text()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef) and node.name == name:
            return "raise NotImplementedError" in ast.unparse(node)
    return True


@pytest.mark.parametrize("seeds", [range(start, start + 20) for start in range(0, 160, 20)])
def test_random_plays_on_the_core_alone(seeds: range) -> None:
    for seed in seeds:
        play, steps = core_play(seed)
        play.run(steps)


def test_the_core_alone_does_thousands_of_steps_a_second() -> None:
    """Without a model and checks beside it: what a simulation waits for."""
    engine = CoreEngine(Setting(device_tokens=2_000, host_ratio=2.0))
    rng = random.Random(1)
    steps, started = 0, time.process_time()
    for _ in range(500):
        prompt = array("q", [rng.randrange(3)] * 20 + [rng.randrange(50) for _ in range(20)])
        task = engine.new_task(f"user-{rng.randrange(40)}", prompt)
        assert engine.admit(task)
        engine.step(task)
        engine.finish(task)
        steps += 3
    assert steps / (time.process_time() - started) > 2_000
    engine.check()
    engine.drain()


def core_play(seed: int) -> tuple[Play, list[tuple[object, ...]]]:
    setting, steps = random_play(seed, STEPS)
    setting = replace(setting, overlap=False, storage=False)
    return Play(setting, CoreEngine(setting)), steps
