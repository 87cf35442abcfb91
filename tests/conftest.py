"""Fixtures for all tests."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parent.parent

# Programs, not packages; tests use what they are made of.
sys.path += [str(REPOSITORY / folder) for folder in ("scripts", "benchmarks", "examples")]

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
