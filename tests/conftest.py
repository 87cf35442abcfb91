"""Fixtures for all tests."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parent.parent

# Programs, not packages; tests use what they are made of.
PROGRAMS = ("scripts", "benchmarks", "examples", "examples/monitoring")
sys.path += [str(REPOSITORY / name) for name in PROGRAMS]

import debian_tools  # noqa: E402
import demo_model  # noqa: E402
from server_process import ServerProcess  # noqa: E402
from support.forkserver import client  # noqa: E402


@pytest.fixture(scope="session", autouse=True)
def _servers_are_forks() -> Iterator[None]:
    """Start servers, also those of the benchmarks, without importing the engine for each."""
    with client.running() as server, pytest.MonkeyPatch.context() as patch:
        patch.setattr(ServerProcess, "start", staticmethod(server.start))
        yield


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a tiny model, made once."""
    folder = tmp_path_factory.mktemp("models") / "tiny"
    demo_model.make_model(folder)
    return folder


@pytest.fixture(scope="session")
def debian_tool() -> Callable[[str], Path]:
    """Return what finds, or fetches, a program of ``debian_tools.TOOLS``."""

    def find(name: str) -> Path:
        try:
            return debian_tools.find(name)
        except debian_tools.NoApt as reason:
            pytest.skip(str(reason))

    return find
