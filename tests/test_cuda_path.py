"""What a CPU can check of the way to a GPU: which packages it needs, which platform is chosen, what
the command lines of the docs mean there."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hatch_build import MetadataHook
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from support import docs_commands

ROOT = Path(__file__).parent.parent
LOCK = ROOT / "constraints" / "cuda.txt"
PYTHONS = ("3.10", "3.11", "3.12", "3.13")
# Where our own programs' flags are.
PROGRAMS = ("python", "scripts", "benchmarks", "fuzz", "patches", "build_hooks", "examples")
# Of other people's programs, and of none.
OTHERS = {"--no-install-recommends", "--profile", "--quiet", "--format", "--any-flag"}
# Of the router, which is another package.
ROUTER = {"--disable-circuit-breaker", "--disable-retries"}


def requirements() -> list[Requirement]:
    """What `pip install '.[cuda]'` asks for."""
    metadata: dict[str, Any] = {}
    MetadataHook(str(ROOT), {}).update(metadata)
    lines = [*metadata["dependencies"], *metadata["optional-dependencies"]["cuda"]]
    return [Requirement(line) for line in lines]


def pins(python: str) -> dict[str, str]:
    """The lock's versions for a Python on Linux, x86-64."""
    environment = {
        "python_version": python,
        "python_full_version": f"{python}.9",
        "sys_platform": "linux",
        "platform_machine": "x86_64",
    }
    found: dict[str, str] = {}
    for line in filter(str.strip, LOCK.read_text().splitlines()):
        requirement = Requirement(line)
        if requirement.marker is None or requirement.marker.evaluate(environment):
            (pin,) = requirement.specifier
            assert found.setdefault(canonicalize_name(requirement.name), pin.version) == pin.version
    return found


@pytest.mark.parametrize("python", PYTHONS)
def test_the_lock_has_what_the_extra_asks_for(python: str) -> None:
    locked = pins(python)
    environment = {"python_version": python, "sys_platform": "linux", "platform_machine": "x86_64"}
    for requirement in requirements():
        if requirement.marker is None or requirement.marker.evaluate(environment):
            name = canonicalize_name(requirement.name)
            assert name in locked, f"{LOCK.name} lacks {requirement}: make update-locks"
            assert requirement.specifier.contains(locked[name], prereleases=True), requirement


@pytest.mark.build
@pytest.mark.parametrize("python", PYTHONS)
def test_the_extra_resolves_to_the_lock(python: str) -> None:
    """Asks the package index; without one it fails, and shows what uv says of that."""
    command = [sys.executable, "-m", "uv", "pip", "compile", "--quiet", "--no-header"]
    command += ["--no-annotate", "--python-platform=x86_64-unknown-linux-gnu"]
    command += [f"--python-version={python}.9", f"--constraints={LOCK}", "-"]
    asked = "\n".join(str(requirement) for requirement in requirements())
    done = subprocess.run(command, input=asked, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"uv found no versions, or no index:\n{done.stderr}"
    resolved = [Requirement(line) for line in done.stdout.splitlines() if "==" in line]
    assert len(resolved) > 150
    locked = pins(python)
    for requirement in resolved:
        (pin,) = requirement.specifier
        assert locked.get(canonicalize_name(requirement.name)) == pin.version, requirement


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("files")
    (folder / "tenants.toml").write_text('[users.alice]\nkeys = ["sk-alice"]\n')
    return folder


@pytest.fixture(scope="module")
def commands(tiny_model: Path, folder: Path) -> dict[str, list[str]]:
    return docs_commands.commands(str(tiny_model), folder)


@pytest.fixture(scope="module")
def spans() -> list[str]:
    return sorted(docs_commands.spans())


@pytest.fixture(scope="module")
def with_gpu(commands: Mapping[str, list[str]], spans: list[str], folder: Path) -> dict[str, Any]:
    """What a process makes of them that takes itself to have a GPU."""
    asked = {"commands": list(commands.values()), "spans": [span.split() for span in spans]}
    environment = dict(os.environ)
    for name in ("OMP_NUM_THREADS", "SGLANG_CPU_OMP_THREADS_BIND"):
        environment.pop(name, None)
    done = subprocess.run(
        [sys.executable, "-m", "support.cuda_arguments"],
        cwd=ROOT / "tests",
        env=environment,
        input=json.dumps(asked),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    results: dict[str, Any] = json.loads(done.stdout)
    return results


@pytest.mark.slow
def test_upstream_s_platform_is_chosen(with_gpu: dict[str, Any]) -> None:
    assert with_gpu["platform"] == {
        "class": "CudaSRTPlatform",
        # The one that upstream asks, and that answers no. Its neighbours change things.
        "modules": ["sglang.srt.platforms.torch_cpu"],
        "environment": [],
    }


@pytest.mark.slow
def test_command_lines_of_the_docs_are_read(
    with_gpu: dict[str, Any], commands: Mapping[str, list[str]]
) -> None:
    assert len(commands) >= 5
    for line, read in zip(commands, with_gpu["commands"], strict=True):
        assert "error" not in read, f"{line}\n{read['error']}"
        # None of the CPU's choices.
        assert read["device"] == "cuda"
        assert read["attention_backend"] != "torch_native"
        assert read["hicache_io_backend"] == "kernel"
        assert read["lora_backend"] == "csgmv"
        assert not read["disable_overlap_schedule"]
        assert not read["sleep_on_idle"]
        assert not read["disable_hybrid_swa_memory"]
        assert read["max_total_tokens"] is None
        assert read["max_running_requests"] is None


@pytest.mark.slow
def test_flags_of_the_docs_exist(with_gpu: dict[str, Any], spans: list[str]) -> None:
    files = [file for name in PROGRAMS for file in (ROOT / name).rglob("*.py")]
    scripts = sorted((ROOT / "scripts").glob("*.sh"))
    sources = "\n".join(file.read_text() for file in [*files, *scripts])
    known = set(with_gpu["flags"]) | OTHERS | ROUTER
    unknown = {
        flag: page
        for flag, page in docs_commands.flags().items()
        if flag not in known and not re.search(rf"""["'\s]{flag}["'\s]""", sources)
    }
    assert unknown == {}
    server = [
        (span, problem)
        for span, problem in zip(spans, with_gpu["spans"], strict=True)
        if set(docs_commands.FLAG.findall(span)) <= set(with_gpu["flags"])
    ]
    assert len(server) > 40
    # A flag that is named without its value is no command.
    wrong = [p for p in server if p[1] and not re.search("expected (at least )?one argument", p[1])]
    assert wrong == []
