"""Fetch wheels by name with the user's pip, into a folder that is kept."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping
from email import message_from_bytes
from email.message import Message
from pathlib import Path

from packaging.tags import Tag
from packaging.utils import canonicalize_name, parse_wheel_filename

from .target import Target

ROOT = Path(__file__).resolve().parent.parent.parent
_FOR_PYTHON = "SGLANG_TENANT_PYTHON"  # read by patches/patchqueue/wheel.py

_BUILDERS = ("hatchling", "editables")


class DownloadFailed(RuntimeError):
    """pip did not do it; the message says why."""


class Cache:
    """Wheels that were fetched before."""

    def __init__(self, folder: Path, target: Target) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self._target = target

    def fetch(self, versions: Mapping[str, str]) -> dict[str, Path]:
        """Return a wheel for each name, of the version given."""
        found = {name: self._cached(name, version) for name, version in versions.items()}
        missing = [f"{name}=={versions[name]}" for name, wheel in found.items() if wheel is None]
        if missing:
            self._download(missing)
        fetched = {name: self._cached(name, version) for name, version in versions.items()}
        return {name: wheel for name, wheel in fetched.items() if wheel is not None}

    def _cached(self, name: str, version: str) -> Path | None:
        fitting = [
            wheel
            for wheel in sorted(self.folder.glob("*.whl"))
            if _is(wheel, name, version) and self._runs_there(wheel)
        ]
        return fitting[-1] if fitting else None

    def _runs_there(self, wheel: Path) -> bool:
        tags = parse_wheel_filename(wheel.name)[3]
        return any(_fits(tag, self._target.tag) for tag in tags)

    def _download(self, requirements: list[str]) -> None:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        command += ["--only-binary=:all:", *self._target.pip_options()]
        with tempfile.TemporaryDirectory(dir=self.folder) as scratch:
            done = _run([*command, f"--dest={scratch}", *requirements])
            if done.returncode:
                raise DownloadFailed(
                    f"pip could not fetch {' '.join(requirements)}:\n{done.stderr.strip()}\n"
                    f"Set pip's own options (PIP_INDEX_URL, PIP_PROXY, ...), or put wheels for "
                    f"Python {self._target.python} into {self.folder}"
                )
            for wheel in Path(scratch).glob("*.whl"):
                os.replace(wheel, self.folder / wheel.name)


def build_fork(target: Target, into: Path) -> Path:
    """Build the fork's wheel for the target's Python, whichever runs this."""
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps"]
    if all(importlib.util.find_spec(name) for name in _BUILDERS):
        command.append("--no-build-isolation")  # they would be fetched for each build
    with tempfile.TemporaryDirectory(dir=into) as scratch:
        environment = {**os.environ, _FOR_PYTHON: target.tag}
        done = _run([*command, f"--wheel-dir={scratch}", str(ROOT)], environment)
        if done.returncode:
            raise DownloadFailed(f"the fork's wheel was not built:\n{done.stderr.strip()}")
        made = next(Path(scratch).glob("*.whl"))
        return made.replace(into / made.name)


def metadata(wheel: Path) -> Message:
    """Return what the wheel says of itself."""
    with zipfile.ZipFile(wheel) as archive:
        name = next(n for n in archive.namelist() if n.endswith(".dist-info/METADATA"))
        return message_from_bytes(archive.read(name))


def _is(wheel: Path, name: str, version: str) -> bool:
    found, its_version, _, _ = parse_wheel_filename(wheel.name)
    return found == canonicalize_name(name) and str(its_version) == version


def _fits(tag: Tag, python: str) -> bool:
    if tag.interpreter.startswith("py"):
        return True
    older = int(tag.interpreter[3:]) <= int(python[3:])
    return tag.interpreter == python or (tag.abi == "abi3" and older)


def _run(
    command: list[str], environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
