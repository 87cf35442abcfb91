"""The fork's own side: the pins, the series with its headers, the own files."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from . import diff
from .errors import Refusal

PACKAGE = "sglang"
# Its hash is always in the lock, so that another release is noticed even by an empty series.
WITNESS = f"{PACKAGE}/srt/server_args.py"
VERSION_FILE = f"{PACKAGE}/_version.py"
TREE_PREFIX = "python/"
REQUIRED_FIELDS = ("Description", "Forwarded", "Drop-When")

_FIELD = re.compile(r"^([A-Z][A-Za-z-]*):\s*(.*)$")
_DIFF_BEGINS = re.compile(rb"^(?:diff --git |--- )", re.MULTILINE)


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@dataclass(frozen=True)
class Patch:
    """One patch file: a header in words, then the diffs. Paths as in the package.

    ``folder``: where it lies, from the repository's root.
    """

    folder: str
    name: str
    header: bytes
    diffs: dict[str, diff.FileDiff]

    @classmethod
    def parse(cls, folder: str, name: str, content: bytes) -> Patch:
        begin = _DIFF_BEGINS.search(content)
        cut = begin.start() if begin else len(content)
        diffs: dict[str, diff.FileDiff] = {}
        try:
            for file_diff in diff.parse(content[cut:]):
                path = _package_path(file_diff.path)
                if path in diffs:
                    raise Refusal(f"{file_diff.path} appears twice")
                diffs[path] = file_diff
        except Refusal as refusal:
            raise Refusal(f"{folder}/{name}: {refusal}") from None
        return cls(folder, name, content[:cut], diffs)

    @property
    def path(self) -> str:
        return f"{self.folder}/{self.name}"

    def render(self) -> bytes:
        return self.header + b"".join(self.diffs[path].raw for path in sorted(self.diffs))

    @property
    def touched(self) -> int:
        return sum(file_diff.touched for file_diff in self.diffs.values())

    @cached_property
    def fields(self) -> dict[str, str]:
        """Header fields. Lines that start with a space continue the field above them."""
        fields: dict[str, str] = {}
        last = ""
        for line in self.header.decode().splitlines():
            match = _FIELD.match(line)
            if match:
                last = match[1]
                fields[last] = match[2]
            elif last and line.startswith(" "):
                fields[last] += "\n" + line.strip()
        return fields

    def complaints(self) -> Iterator[str]:
        """What `verify` has against the header, one line each."""
        for field in REQUIRED_FIELDS:
            if not self.fields.get(field, "").strip():
                yield f"{self.path}: the header has no {field}:"
        if "Description" in self.fields and "\n" not in self.fields["Description"].strip():
            yield (f"{self.path}: Description: needs indented lines below it that say why")
        forwarded = self.fields.get("Forwarded", "").split()[:1]
        if forwarded and not re.match(r"https?://|no$|not-needed$", forwarded[0]):
            yield (
                f"{self.path}: Forwarded: is {forwarded[0]!r}; give a link, `no` or `not-needed`"
            )
        if not self.diffs:
            yield f"{self.path}: changes nothing"


def _package_path(tree_path: str) -> str:
    path = tree_path.removeprefix(TREE_PREFIX)
    if path == tree_path or not path.startswith(f"{PACKAGE}/") or ".." in path.split("/"):
        raise Refusal(f"{tree_path} is not under {TREE_PREFIX}{PACKAGE}/")
    return path


@dataclass(frozen=True)
class Step:
    """What one patch makes of one file."""

    patch: Patch
    before: bytes
    after: bytes
    moved: bool


def stack(patches: list[Patch], read: Callable[[str], bytes]) -> dict[str, list[Step]]:
    """Apply the patches in order, in memory; `read` gives upstream's content of a path."""
    steps: dict[str, list[Step]] = {}
    for patch in patches:
        for path, file_diff in patch.diffs.items():
            below = steps.setdefault(path, [])
            before = below[-1].after if below else read(path)
            try:
                after, moved = diff.apply(before, file_diff)
            except Refusal as refusal:
                raise Refusal(f"{patch.path}: {refusal}") from None
            below.append(Step(patch, before, after, moved))
    return steps


@dataclass(frozen=True)
class Repository:
    """A directory with upstream.json, patches/ and python/sglang/, seen on one base.

    A base is a release of upstream's that upstream.json pins. ``base``: its version; without it,
    the one that the build uses.
    """

    root: Path
    base: str | None = None

    @property
    def folder(self) -> str:
        """Where the base's series lies, from the root."""
        return f"patches/{self.upstream_version}"

    @property
    def patches_dir(self) -> Path:
        return self.root / self.folder

    @property
    def own_dir(self) -> Path:
        """Holds `sglang/`, as a target does."""
        return self.root / "python"

    @property
    def lock_file(self) -> Path:
        return self.patches_dir / "upstream.lock"

    @property
    def cache(self) -> Path:
        return self.root / "build" / "upstream"

    @cached_property
    def _upstream(self) -> dict[str, Any]:
        upstream: dict[str, Any] = json.loads((self.root / "upstream.json").read_text())
        return upstream

    @property
    def upstream_version(self) -> str:
        return self.base or str(self._upstream["base"])

    @property
    def _pins(self) -> dict[str, Any]:
        known: dict[str, dict[str, Any]] = self._upstream["versions"]
        if self.upstream_version not in known:
            raise Refusal(
                f"upstream.json pins no {self.upstream_version}; use one of: {', '.join(known)}"
            )
        return known[self.upstream_version]

    @property
    def version(self) -> str:
        return f"{self.upstream_version}+{self._pins['local']}"

    @property
    def wheels(self) -> dict[str, str]:
        """File name of each pinned upstream wheel -> its SHA-256."""
        wheels: dict[str, str] = self._pins["wheels"]
        return wheels

    def listed(self) -> list[str]:
        """Names in the series file, in order."""
        if not self.patches_dir.is_dir():
            raise Refusal(f"{self.folder} is not there; make it, with a file `series`")
        text = (self.patches_dir / "series").read_text()
        lines = (line.split("#")[0].strip() for line in text.splitlines())
        return [line for line in lines if line]

    def patches(self) -> list[Patch]:
        return [self.read_patch(name) for name in self.listed()]

    def read_patch(self, name: str) -> Patch:
        path = self.patches_dir / name
        if not path.is_file():
            raise Refusal(
                f"{self.folder}/series lists {name}, but {self.folder}/{name} is not there; "
                "add the file or take the line out"
            )
        return Patch.parse(self.folder, name, path.read_bytes())

    def unlisted(self) -> list[str]:
        present = {path.name for path in self.patches_dir.glob("*.patch")}
        return sorted(present - set(self.listed()))

    def own_files(self) -> dict[str, Path]:
        """Package path -> file, for every file of the fork's own."""
        found: dict[str, Path] = {}
        for path in sorted((self.own_dir / PACKAGE).rglob("*")):
            relative = path.relative_to(self.own_dir)
            hidden = any(part.startswith(".") for part in relative.parts)
            if path.is_file() and not hidden and "__pycache__" not in relative.parts:
                found[relative.as_posix()] = path
        return found

    def lock(self) -> dict[str, str]:
        """Package path -> SHA-256 of upstream's content, for each file the series touches."""
        if not self.lock_file.is_file():
            return {}
        lock: dict[str, str] = json.loads(self.lock_file.read_text())
        return lock

    def write_lock(self, read: Callable[[str], bytes]) -> None:
        touched = {path for patch in self.patches() for path in patch.diffs}
        lock = {path: sha256(read(path)) for path in sorted(touched | {WITNESS})}
        self.lock_file.write_text(json.dumps(lock, indent=2) + "\n")

    def version_file(self) -> bytes:
        """What the package's generated _version.py says in the fork."""
        public, local = self.version.split("+")
        parts = tuple(int(part) if part.isdigit() else part for part in public.split("."))
        return (
            "# Written by the fork's patches/series.py or its build.\n"
            f'__version__ = version = "{self.version}"\n'
            f"__version_tuple__ = version_tuple = {(*parts, local)!r}\n"
            "__commit_id__ = commit_id = None\n"
        ).encode()

    def digest(self) -> str:
        """Names the series: changes when a patch, an own file or the version does."""
        parts = [self.version]
        parts += [f"{patch.name} {sha256(patch.render())}" for patch in self.patches()]
        parts += [f"{path} {sha256(file.read_bytes())}" for path, file in self.own_files().items()]
        return sha256("\n".join(parts).encode())
