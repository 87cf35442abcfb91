"""Write constraints/cpu.txt and constraints/cuda.txt: a version for each package of an install.

A version that a file has stays while it fits; with --upgrade every package gets its newest.
Needs uv, hatchling and packaging.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path
from typing import Any

from hatch_build import MetadataHook

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "constraints"
DEVICES = ("cpu", "cuda")
# What `make` installs besides, into the same environment.
TOOLS = ("client", "test", "bench")
OLDEST_PYTHON = "3.10"
FLAGS = (
    "--universal",
    f"--python-version={OLDEST_PYTHON}",
    "--no-emit-index-url",
    "--no-emit-find-links",
    "--no-annotate",
    "--no-header",
    "--quiet",
)


def requirements(device: str) -> list[str]:
    """Return what an environment with all of make's targets needs on the device."""
    metadata: dict[str, Any] = {}
    MetadataHook(str(ROOT), {}).update(metadata)
    extras: dict[str, list[str]] = metadata["optional-dependencies"]
    chosen = [line for name in (device, *TOOLS) for line in extras[name]]
    return [*metadata["dependencies"], *chosen]


def lock(device: str, *, upgrade: bool) -> None:
    """Write the device's file. Raises CalledProcessError where uv finds no versions that fit."""
    FOLDER.mkdir(exist_ok=True)
    more = ["--upgrade"] if upgrade else []
    file = f"--output-file={FOLDER.name}/{device}.txt"
    # From the root: uv takes the environments from pyproject.toml.
    subprocess.run(
        [sys.executable, "-m", "uv", "pip", "compile", *FLAGS, *more, file, "-"],
        cwd=ROOT,
        input="\n".join(requirements(device)),
        stdout=subprocess.DEVNULL,
        text=True,
        check=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--upgrade", action="store_true", help="take the newest of every package")
    upgrade: bool = parser.parse_args().upgrade
    for device in DEVICES:
        lock(device, upgrade=upgrade)


if __name__ == "__main__":
    main()
