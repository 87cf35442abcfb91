"""Fixtures for all tests."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parent.parent

# The scripts and benchmarks are programs, not packages; tests use what they are made of.
sys.path += [str(REPOSITORY / "scripts"), str(REPOSITORY / "benchmarks")]

import demo_model  # noqa: E402


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a tiny model, made once."""
    folder = tmp_path_factory.mktemp("models") / "tiny"
    demo_model.make_model(folder)
    return folder
