"""A place that holds upstream's package: what it is, and what was applied to it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from email import message_from_bytes
from pathlib import Path

from .errors import Refusal
from .repository import PACKAGE, VERSION_FILE, Repository
from .transaction import hash_or_none, read_or_none, unpack

STATE_FILE = f"{PACKAGE}/.tenant-series.json"


@dataclass(frozen=True)
class FileState:
    """One file that apply changed. `original` is packed; None where upstream had no file."""

    before: str | None
    after: str
    original: str | None


@dataclass(frozen=True)
class State:
    """What apply left in the target, so that revert needs neither network nor old patches."""

    series: str
    version: str
    files: dict[str, FileState]
    directories: list[str] = field(default_factory=list)

    def to_json(self) -> bytes:
        return (json.dumps(asdict(self), indent=1, sort_keys=True) + "\n").encode()

    @classmethod
    def from_json(cls, content: bytes) -> State:
        raw = json.loads(content)
        files = {path: FileState(**entry) for path, entry in raw.pop("files").items()}
        return cls(files=files, **raw)


class Target:
    """A git checkout (has python/sglang) or a directory that holds sglang/.

    Raises Refusal when the path is neither, or is the fork's own repository.
    """

    def __init__(self, path: Path, repository: Repository) -> None:
        for root in (path / "python", path):
            if (root / PACKAGE / "__init__.py").is_file():
                self.root = root.resolve()
                break
        else:
            raise Refusal(
                f"{path} holds neither python/{PACKAGE}/__init__.py nor {PACKAGE}/__init__.py; "
                "name an upstream checkout, an unpacked wheel or a site-packages"
            )
        self.is_checkout = self.root == (path / "python").resolve()
        if self.root == repository.own_dir.resolve():
            raise Refusal(f"{path} is the fork's own repository, not a copy of upstream")

    def read(self, path: str) -> bytes | None:
        return read_or_none(self.root / path)

    def state(self) -> State | None:
        content = self.read(STATE_FILE)
        return None if content is None else State.from_json(content)

    def versions(self) -> set[str]:
        """Versions the target states itself to be; a bare checkout states none."""
        found: set[str] = set()
        for metadata in self.root.glob(f"{PACKAGE}-*.dist-info/METADATA"):
            found.add(str(message_from_bytes(metadata.read_bytes())["Version"]))
        # In a checkout this file is whatever the last local build made of it.
        generated = None if self.is_checkout else self.read(VERSION_FILE)
        match = re.search(rb"^__version__ = .*?['\"](.+?)['\"]", generated or b"", re.MULTILINE)
        if match:
            found.add(match[1].decode())
        return found

    def require_version(self, repository: Repository) -> None:
        """Refuse a target that says it is another release than the pinned one."""
        for version in sorted(self.versions() - {repository.upstream_version}):
            if version == repository.version:
                raise Refusal(
                    f"{self.root} holds a package built from this fork ({version}); "
                    "change the repository and install again"
                )
            raise Refusal(
                f"{self.root} holds {PACKAGE} {version}, the series is for "
                f"{repository.upstream_version}; take that version"
            )

    def edited(self, state: State) -> list[str]:
        """Paths whose content is no longer what apply left."""
        return [
            path
            for path, entry in sorted(state.files.items())
            if hash_or_none(self.read(path)) != entry.after
        ]

    def original(self, path: str, state: State | None) -> bytes | None:
        """Content before the series came, from the state or from the disk."""
        entry = state.files.get(path) if state else None
        if entry is None:
            return self.read(path)
        content = None if entry.original is None else unpack(entry.original)
        if hash_or_none(content) != entry.before:
            raise Refusal(f"{self.root / STATE_FILE} is damaged at {path}; take a fresh copy")
        return content

    def require_plain(self, paths: Iterable[str]) -> None:
        """Refuse links: replacing one would cut it, writing through it changes another place."""
        for path in paths:
            if (self.root / path).is_symlink():
                raise Refusal(f"{self.root / path} is a symbolic link; take a plain copy")
