"""The locked versions: complete, and what the fork asks for."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from update_locks import DEVICES, requirements

ROOT = Path(__file__).resolve().parent.parent
PYTHONS = ("3.10", "3.11", "3.12", "3.13")


def locked(device: str) -> list[Requirement]:
    lines = (ROOT / "constraints" / f"{device}.txt").read_text().splitlines()
    return [Requirement(line) for line in lines]


def environment(python: str) -> dict[str, str]:
    return {
        "python_version": python,
        "python_full_version": f"{python}.9",
        "sys_platform": "linux",
        "platform_system": "Linux",
        "platform_machine": "x86_64",
        "platform_python_implementation": "CPython",
        "implementation_name": "cpython",
        "os_name": "posix",
        "extra": "",
    }


def applies(requirement: Requirement, python: str) -> bool:
    return requirement.marker is None or requirement.marker.evaluate(environment(python))


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("device", DEVICES)
def test_each_requirement_has_one_locked_version_that_fits(device: str, python: str) -> None:
    versions: dict[str, str] = {}
    for line in locked(device):
        if applies(line, python):
            name = canonicalize_name(line.name)
            assert name not in versions, f"{name}: two versions for Python {python}"
            (one,) = line.specifier
            assert one.operator == "=="
            versions[name] = one.version
    wanted = [Requirement(line) for line in requirements(device)]
    for requirement in wanted:
        if applies(requirement, python):
            version = versions.get(canonicalize_name(requirement.name))
            assert version is not None, f"{requirement.name} has no locked version"
            assert requirement.specifier.contains(version, prereleases=True), requirement


@pytest.mark.parametrize("device", DEVICES)
def test_the_files_name_no_place(device: str) -> None:
    text = (ROOT / "constraints" / f"{device}.txt").read_text()
    assert not re.search(r"://|^-|@ ", text, re.M)
