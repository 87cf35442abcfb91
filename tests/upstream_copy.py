"""Upstream's wheel on disk, for the tests of the patch tool and of the build."""

from __future__ import annotations

import hashlib
import os
import shutil
import zipfile
from pathlib import Path

from patchqueue import wheel
from patchqueue.repository import Repository

ROOT = Path(__file__).resolve().parent.parent
SERIES = ROOT / "patches" / "series.py"


def fetch_wheel() -> Path:
    """The pinned wheel, through the tool's own cache."""
    repository = Repository(ROOT)
    return wheel.fetch(repository, wheel.any_name(repository))


def unpack(into: Path) -> Path:
    with zipfile.ZipFile(fetch_wheel()) as archive:
        archive.extractall(into)
    # One executable file, as a git checkout has it.
    (into / "sglang/srt/managers/schedule_batch.py").chmod(0o755)
    return into


def link_copy(source: Path, into: Path) -> Path:
    """A copy whose files are hard links: cheap, and a write through one shows in the source."""
    shutil.copytree(source, into, copy_function=os.link)
    return into


def tree_digest(root: Path) -> dict[str, str]:
    """Path -> mode and hash of every file, and every directory; bytecode left out."""
    found: dict[str, str] = {}
    for path in sorted(root.rglob("*")):
        if "__pycache__" in path.parts:
            continue
        key = path.relative_to(root).as_posix()
        if path.is_symlink():
            found[key] = f"link {path.readlink()}"
        elif path.is_dir():
            found[key] = "directory"
        else:
            found[key] = f"{path.stat().st_mode & 0o777:o} {_content_hash(path)}"
    return found


# Copies are hard links, so most files were hashed before: (inode, time, size) -> hash.
_hashes: dict[tuple[int, int, int], str] = {}


def _content_hash(path: Path) -> str:
    stat = path.stat()
    key = (stat.st_ino, stat.st_mtime_ns, stat.st_size)
    if key not in _hashes:
        _hashes[key] = hashlib.sha256(path.read_bytes()).hexdigest()
    return _hashes[key]
