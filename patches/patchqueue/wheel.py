"""Upstream's pinned wheel: which one, where it comes from, what is in it."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from .errors import Refusal
from .repository import PACKAGE, Repository, sha256

_VERSION = re.compile(r"\d+(\.\d+)*((a|b|rc|\.post|\.dev)\d+)*")
# A wheel for a Python that upstream's releases of some years have in common.
_ANY_LINUX = [
    "--implementation=cp",
    "--python-version=312",
    "--abi=cp312",
    "--platform=manylinux_2_34_x86_64",
]


def native_name(repository: Repository) -> str:
    """The pinned wheel for the running Python and machine.

    SGLANG_TENANT_PYTHON (such as cp312) names another Python, to build for a machine that cannot
    build. Raises Refusal where upstream published none.
    """
    running = f"cp{sys.version_info.major}{sys.version_info.minor}"
    python = os.environ.get("SGLANG_TENANT_PYTHON") or running
    machine = platform.machine()
    for name in repository.wheels:
        parts = name.removesuffix(".whl").split("-")
        if parts[2] == python and sys.platform == "linux" and parts[-1].endswith(machine):
            return name
    raise Refusal(
        f"upstream {repository.upstream_version} has no wheel for {python} on "
        f"{sys.platform} {machine}; use one of: {', '.join(sorted(repository.wheels))}"
    )


def any_name(repository: Repository) -> str:
    """The native wheel, or else any: their Python files are the same."""
    try:
        return native_name(repository)
    except Refusal:
        return sorted(repository.wheels)[0]


def fetch(repository: Repository, name: str) -> Path:
    """Return the checked wheel, downloading it with the user's pip when it is not cached."""
    cached = repository.cache / name
    if not cached.is_file():
        repository.cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=repository.cache) as scratch:
            os.replace(_download(repository, name, Path(scratch)), cached)
    return check(repository, cached)


def fetch_release(repository: Repository, version: str) -> Path:
    """Return a wheel of a release that is not pinned, by the user's pip, once. No hash is known.

    The one for this Python and machine, or else any: their Python files are the same.
    """
    if not _VERSION.fullmatch(version):
        raise Refusal(f"{version!r} is no version of a release, such as 0.5.18")
    folder = repository.cache / "unpinned"
    cached = sorted(folder.glob(f"{PACKAGE}-{version}-*.whl"))
    if cached:
        return cached[0]
    folder.mkdir(parents=True, exist_ok=True)
    requirement = f"{PACKAGE}==={version}"
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        for choice in ([], _ANY_LINUX):
            done = _pip_download([*choice, requirement], Path(scratch))
            found = list(Path(scratch).glob("*.whl"))
            if done.returncode == 0 and found:
                os.replace(found[0], folder / found[0].name)
                return folder / found[0].name
    raise Refusal(
        f"pip could not download {requirement}:\n{done.stderr.strip()}\n"
        f"Set pip's own options (PIP_INDEX_URL, PIP_PROXY, ...) or put the file into {folder}"
    )


def check(repository: Repository, wheel: Path) -> Path:
    """Return the path when the file is one of the pinned wheels; Refusal otherwise."""
    if not wheel.is_file():
        raise Refusal(f"{wheel} is not there; leave --wheel out to download it")
    expected = repository.wheels.get(wheel.name)
    if expected is None:
        raise Refusal(
            f"{wheel.name} is not pinned in upstream.json; "
            f"use one of: {', '.join(sorted(repository.wheels))}"
        )
    found = sha256(wheel.read_bytes())
    if found != expected:
        raise Refusal(
            f"{wheel}: SHA-256 is {found}, upstream.json pins {expected}; "
            "delete the file and download it again"
        )
    return wheel


def _download(repository: Repository, name: str, into: Path) -> Path:
    _, version, python, abi, platform_tag = name.removesuffix(".whl").split("-")
    # `===` and the hash: a plain `==` would also take the fork's own local version.
    requirement = into / "requirement.txt"
    requirement.write_text(
        f"{PACKAGE}==={version} --hash=sha256:{repository.wheels[name]}\n", encoding="utf-8"
    )
    chosen = ["--implementation=cp", f"--abi={abi}", f"--platform={platform_tag}"]
    chosen += [f"--python-version={python.removeprefix('cp')}"]
    done = _pip_download([*chosen, "--require-hashes", f"--requirement={requirement}"], into)
    if done.returncode != 0 or not (into / name).is_file():
        raise Refusal(
            f"pip could not download {name}:\n{done.stderr.strip()}\n"
            f"Set pip's own options (PIP_INDEX_URL, PIP_PROXY, ...) or put the file into "
            f"{repository.cache}"
        )
    return into / name


def _pip_download(arguments: list[str], into: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    command += ["--only-binary=:all:", f"--dest={into}", *arguments]
    return subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False)


class WheelFiles:
    """Read access to the files of a wheel by their path in the package."""

    def __init__(self, path: Path) -> None:
        self._zip = zipfile.ZipFile(path)
        self.names = {name for name in self._zip.namelist() if not name.endswith("/")}

    def read(self, path: str) -> bytes:
        if path not in self.names:
            raise Refusal(f"upstream has no file {path}")
        return self._zip.read(path)

    def dist_info(self, file: str) -> bytes:
        """A file of the wheel's dist-info directory."""
        name = next(n for n in self.names if n.endswith(f".dist-info/{file}"))
        return self._zip.read(name)

    def extract(self, into: Path) -> None:
        """Unpack the package, with file modes. Other top-level names are left behind."""
        for name in sorted(self.names):
            if name.startswith(f"{PACKAGE}/"):
                path = Path(self._zip.extract(name, into))
                path.chmod((self._zip.getinfo(name).external_attr >> 16 & 0o777) or 0o644)
