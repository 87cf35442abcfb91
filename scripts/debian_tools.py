"""Find a program of Debian's packages; fetch it where it is not installed.

    python scripts/debian_tools.py promtool

prints its path. What needs nothing but its own files, and few libraries, is unpacked into
.venv/debian, without root; what needs many is installed, which only root can do.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).resolve().parent.parent / ".venv" / "debian"
_SECONDS = 240.0  # for one command
_WRAPPED = "wrapped"  # folder of scripts, beside usr
_WRAPPER = """#!/bin/sh
files=$(cd "$(dirname "$0")/.." && pwd)
for folder in "$files"/usr/lib/*-linux-gnu*; do
    LD_LIBRARY_PATH=$folder${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
done
export LD_LIBRARY_PATH
exec "$files/usr/bin/$(basename "$0")" "$@"
"""


@dataclass(frozen=True)
class Tool:
    """``packages``: the first one has the program. ``with_libraries``: they are to be installed,
    with what they depend on. ``unpack_libraries``: what they depend on, and is not installed, is
    unpacked beside them."""

    packages: tuple[str, ...]
    with_libraries: bool = False
    unpack_libraries: bool = False


TOOLS = {
    "prometheus": Tool(("prometheus",)),
    "promtool": Tool(("prometheus",)),
    "chromium": Tool(("chromium",), with_libraries=True),
    # Installed, it would start a server.
    "redis-server": Tool(("redis-server",), unpack_libraries=True),
}


class NoApt(RuntimeError):
    """This is no Debian: the program must be installed by other means."""


class FetchFailed(RuntimeError):
    """apt is there and did not do it; the message says why."""


def find(name: str) -> Path:
    """Return the program's path, after fetching it where need be.

    ``name``: one of ``TOOLS``. Raises NoApt and FetchFailed.
    """
    tool = TOOLS[name]
    if found := _found(name):
        return found
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        raise NoApt(f"{name} is not on PATH, and there is no apt-get to fetch it with")
    with _alone():
        if found := _found(name):  # by the process that was waited for
            return found
        (_install if tool.with_libraries else _unpack)(tool)
    if found := _found(name):
        return found
    raise FetchFailed(f"{name}: not in the packages {', '.join(tool.packages)}")


def _found(name: str) -> Path | None:
    unpacked = _unpacked(TOOLS[name])
    folders = str(unpacked / _WRAPPED), str(unpacked / "usr" / "bin")
    path = os.pathsep.join((os.environ.get("PATH", os.defpath), *folders))
    found = shutil.which(name, path=path)
    return None if found is None else Path(found)


def _unpacked(tool: Tool) -> Path:
    return FOLDER / tool.packages[0]


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """Hold the lock: several processes of a test run may want the same."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    with (FOLDER / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _unpack(tool: Tool) -> None:
    with tempfile.TemporaryDirectory(dir=FOLDER) as name:
        folder = Path(name)
        (folder / "files").mkdir()
        if tool.unpack_libraries:
            _download_all(tool, folder)
        else:
            _apt("download", *tool.packages, folder=folder)
        for archive in folder.glob("*.deb"):
            _run("dpkg-deb", "-x", str(archive), str(folder / "files"))
        if tool.unpack_libraries:
            _wrap(folder / "files")
        shutil.rmtree(_unpacked(tool), ignore_errors=True)
        # All of it or nothing: whoever ends this process leaves no half of a program.
        (folder / "files").rename(_unpacked(tool))


def _download_all(tool: Tool, folder: Path) -> None:
    """Download the packages and what they depend on, but for what is installed."""
    (folder / "partial").mkdir()
    options = {
        "Debug::NoLocking": "true",
        "Dir::Cache::archives": str(folder),
        # Not to be written without root.
        "Dir::Cache::pkgcache": "",
        "Dir::Cache::srcpkgcache": "",
    }
    settings = [f"--option={name}={value}" for name, value in options.items()]
    flags = "--yes", "--no-install-recommends", "--download-only"
    _apt("install", *flags, *settings, *tool.packages, folder=folder)


def _wrap(files: Path) -> None:
    """Write a script for each program that lets it find the libraries beside it."""
    (files / _WRAPPED).mkdir()
    for program in files.glob("usr/bin/*"):
        wrapper = files / _WRAPPED / program.name
        wrapper.write_text(_WRAPPER)
        wrapper.chmod(0o755)


def _install(tool: Tool) -> None:
    if os.geteuid() != 0:
        raise FetchFailed(f"only root can do it: apt-get install {' '.join(tool.packages)}")
    _apt("install", "--yes", "--no-install-recommends", *tool.packages, folder=FOLDER)


def _apt(*arguments: str, folder: Path) -> None:
    """Run apt-get; where root can, once more after it has read which packages there are."""
    try:
        _run("apt-get", *arguments, folder=folder)
    except FetchFailed:
        if os.geteuid() != 0:
            raise
        _run("apt-get", "update")
        _run("apt-get", *arguments, folder=folder)


def _run(*command: str, folder: Path | None = None) -> None:
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=_SECONDS,
        )
    except subprocess.TimeoutExpired:
        raise FetchFailed(f"{' '.join(command)}: not done in {_SECONDS:.0f} s") from None
    if done.returncode:
        last = "\n".join(done.stdout.splitlines()[-10:])
        raise FetchFailed(f"{' '.join(command)}: exit code {done.returncode}\n{last}")


def main() -> int:
    """Print the program's path; return the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name", choices=sorted(TOOLS))
    try:
        print(find(parser.parse_args().name))
    except (NoApt, FetchFailed) as problem:
        print(problem, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
