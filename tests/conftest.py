"""Fixtures for all tests."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parent.parent


def pytest_configure(config: pytest.Config) -> None:
    """Declare the marker of the tests that start a server."""
    config.addinivalue_line("markers", "server: starts a real server (slow)")


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a tiny model, made once."""
    folder = tmp_path_factory.mktemp("models") / "tiny"
    subprocess.run([sys.executable, REPOSITORY / "scripts" / "demo_model.py", folder], check=True)
    return folder
