"""Change many files of a target, all or none, whatever interrupts it.

A journal with the old contents goes to disk first; removing it is the commit. While it lies
there the change is unfinished, and `roll_back` puts the old contents back.
"""

from __future__ import annotations

import base64
import fcntl
import json
import os
import shutil
import stat
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .errors import Refusal
from .repository import PACKAGE, sha256

JOURNAL = f"{PACKAGE}/.tenant-journal.json"
_NEW = ".tenant-new"
_CACHE = "__pycache__"


def pack(content: bytes) -> str:
    return base64.b85encode(zlib.compress(content)).decode()


def unpack(text: str) -> bytes:
    return zlib.decompress(base64.b85decode(text))


def read_or_none(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def hash_or_none(content: bytes | None) -> str | None:
    return None if content is None else sha256(content)


@contextmanager
def locked(root: Path) -> Iterator[None]:
    """Keep other runs of the tool away from the target. Leaves no file behind."""
    handle = os.open(root / PACKAGE, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        raise Refusal(f"another run is working on {root}; wait for it to end") from None
    try:
        yield
    finally:
        os.close(handle)


def commit(
    root: Path, changes: Mapping[str, bytes | None], directories: Iterable[str] = ()
) -> None:
    """Give each path (relative to root) its new content; None removes it.

    Of `directories`, those that are empty afterwards go too. Any exception on the way leaves the
    target as it was, and is raised again.
    """
    journal = _journal(root, changes)
    try:
        _write(root / JOURNAL, json.dumps(journal).encode(), 0o644)
        for directory in journal["directories"]:
            (root / directory).mkdir()
        for path, content in changes.items():
            if content is not None:
                _stage(root / path, content, journal["files"][path]["mode"])
        for path, content in changes.items():
            if content is None:
                (root / path).unlink(missing_ok=True)
            else:
                os.replace(_beside(root / path), root / path)
            drop_bytecode(root / path)
        for directory in sorted(directories, reverse=True):
            remove_directory(root / directory)
        (root / JOURNAL).unlink()
    except BaseException:
        roll_back(root)
        raise


def roll_back(root: Path) -> bool:
    """Undo an unfinished change; True if there was one. May itself be interrupted and repeated.

    Raises Refusal, and keeps the journal, when somebody edited a file in between.
    """
    _beside(root / JOURNAL).unlink(missing_ok=True)
    content = read_or_none(root / JOURNAL)
    if content is None:
        return False
    journal = json.loads(content)
    for path, entry in journal["files"].items():
        _restore(root, path, entry)
    for directory in reversed(journal["directories"]):
        remove_directory(root / directory)
    (root / JOURNAL).unlink()
    return True


def remove_directory(path: Path) -> None:
    """Remove a directory that holds nothing, or only bytecode; leave any other."""
    if path.is_dir() and {entry.name for entry in path.iterdir()} <= {_CACHE}:
        shutil.rmtree(path / _CACHE, ignore_errors=True)
        path.rmdir()


def drop_bytecode(source: Path) -> None:
    """Python trusts cached bytecode of the same size and second; a change must not meet it."""
    for path in source.parent.glob(f"{_CACHE}/{source.stem}.*.pyc"):
        path.unlink(missing_ok=True)


def _journal(root: Path, changes: Mapping[str, bytes | None]) -> dict[str, Any]:
    files: dict[str, Any] = {}
    directories: set[str] = set()
    for path, content in changes.items():
        old = read_or_none(root / path)
        files[path] = {
            "old": None if old is None else pack(old),
            "old_hash": hash_or_none(old),
            "new_hash": hash_or_none(content),
            "mode": 0o644 if old is None else stat.S_IMODE((root / path).stat().st_mode),
        }
        parent = Path(path).parent
        while content is not None and not (root / parent).is_dir():
            directories.add(parent.as_posix())
            parent = parent.parent
    return {"files": files, "directories": sorted(directories)}


def _restore(root: Path, path: str, entry: dict[str, Any]) -> None:
    target = root / path
    _beside(target).unlink(missing_ok=True)
    found = hash_or_none(read_or_none(target))
    drop_bytecode(target)
    if found == entry["old_hash"]:
        return
    if found not in (None, entry["new_hash"]):
        raise Refusal(
            f"{target} was edited after a run that did not finish; "
            "move your version away, then run the command again"
        )
    if entry["old"] is None:
        target.unlink()
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    _write(target, unpack(entry["old"]), entry["mode"])


def _write(path: Path, content: bytes, mode: int) -> None:
    _stage(path, content, mode)
    os.replace(_beside(path), path)


def _stage(path: Path, content: bytes, mode: int) -> None:
    """Write the content beside the path and onto the disk."""
    with open(_beside(path), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.chmod(_beside(path), mode)


def _beside(path: Path) -> Path:
    return path.with_name(path.name + _NEW)
