"""Upstream's own wheel, unpacked beside the fork, so that it runs without the fork's patches.

On a CPU it gets what lets it start there: the platform's files, and the one patch that has them
imported before torchvision. Nothing of the tenant cache is in it.
"""

from __future__ import annotations

import compileall
import contextlib
import hashlib
import os
import tempfile
from pathlib import Path

from engine_speed import ROOT
from patchqueue import wheel
from patchqueue.repository import Repository, stack

PLATFORM = "sglang/srt/platforms/torch_cpu"
PLATFORM_PATCH = "platform-before-torchvision.patch"


def unpacked() -> Path:
    """The folder that holds the package `sglang`; made, and compiled, where it is not there.

    Raises Refusal where upstream has no wheel for this Python, or pip cannot fetch it.
    """
    repository = Repository(ROOT)
    archive = wheel.fetch(repository, wheel.native_name(repository))
    files = wheel.WheelFiles(archive)
    changed = _for_the_platform(repository, files)
    folder = repository.cache / f"unpacked-{_digest(archive.name, changed)}"
    if folder.is_dir():
        return folder
    with tempfile.TemporaryDirectory(dir=repository.cache) as scratch:
        draft = Path(scratch) / "package"
        files.extract(draft)
        for path, content in changed.items():
            (draft / path).write_bytes(content)
        compileall.compile_dir(draft, quiet=2, workers=0, stripdir=draft, prependdir=folder)
        with contextlib.suppress(OSError):  # somebody else has just made it
            os.replace(draft, folder)
    return folder


def _for_the_platform(repository: Repository, files: wheel.WheelFiles) -> dict[str, bytes]:
    """Path in the package -> content, where it is not upstream's."""
    own = repository.own_files().items()
    changed = {path: file.read_bytes() for path, file in own if path.startswith(PLATFORM)}
    patched = stack([repository.read_patch(PLATFORM_PATCH)], files.read)
    return changed | {path: steps[-1].after for path, steps in patched.items()}


def _digest(name: str, changed: dict[str, bytes]) -> str:
    whole = hashlib.sha256(name.encode())
    for path in sorted(changed):
        whole.update(path.encode() + b"\0" + changed[path] + b"\0")
    return whole.hexdigest()[:16]
