"""Fixtures for all tests."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parent.parent

# The scripts are programs, not a package; tests use what they are made of.
sys.path.append(str(REPOSITORY / "scripts"))

import demo_model  # noqa: E402


def pytest_configure(config: pytest.Config) -> None:
    """Declare the marker of the tests that start a server."""
    config.addinivalue_line("markers", "server: starts a real server (slow)")


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a tiny model, made once."""
    folder = tmp_path_factory.mktemp("models") / "tiny"
    demo_model.make_model(folder)
    return folder
