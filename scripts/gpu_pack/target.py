"""The machine that a pack is for: its Python, its C library, and what is installed there."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

_OLDEST_GLIBC = 5  # manylinux_2_5, the first tag of all
_ENTRY = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)(?:==(\S+))?")


@dataclass(frozen=True)
class Target:
    """``present``: version by name; None where only the name is known."""

    python: str  # such as 3.12
    glibc: str  # such as 2.34
    present: dict[str, Version | None]

    @property
    def tag(self) -> str:
        return "cp" + self.python.replace(".", "")

    def markers(self) -> dict[str, str]:
        """What environment markers are evaluated with."""
        return {
            "implementation_name": "cpython",
            "os_name": "posix",
            "platform_machine": "x86_64",
            "platform_python_implementation": "CPython",
            "platform_system": "Linux",
            "python_full_version": f"{self.python}.9",
            "python_version": self.python,
            "sys_platform": "linux",
            "extra": "",
        }

    def wants(self, requirement: Requirement, extras: frozenset[str] = frozenset()) -> bool:
        """Say whether the requirement, read with these extras, counts on this machine."""
        marker = requirement.marker
        if marker is None:
            return True
        return any(marker.evaluate(self.markers() | {"extra": extra}) for extra in {"", *extras})

    def has(self, requirement: Requirement) -> bool:
        """Say whether what is installed there will do. A version nobody knows will not."""
        name = canonicalize_name(requirement.name)
        if name not in self.present:
            return False
        version = self.present[name]
        if version is None:
            return not requirement.specifier
        return requirement.specifier.contains(version, prereleases=True)

    def pip_options(self) -> list[str]:
        """Return what makes pip choose wheels for this machine instead of its own."""
        newest = int(self.glibc.split(".")[1])
        platforms = [
            f"manylinux_2_{minor}_x86_64" for minor in range(newest, _OLDEST_GLIBC - 1, -1)
        ]
        platforms += [f"manylinux{old}_x86_64" for old in ("2014", "2010", "1")]
        chosen = [f"--python-version={self.python}", "--implementation=cp"]
        chosen += [f"--abi={abi}" for abi in (self.tag, "abi3", "none")]
        return chosen + [f"--platform={platform}" for platform in platforms]


def read_present(path: Path) -> dict[str, Version | None]:
    """Read what ``pip list --format json`` or ``pip freeze`` printed, or a list of names.

    Raises ValueError for a line that is neither a name nor name==version.
    """
    text = path.read_text()
    if text.lstrip().startswith("["):
        return {
            canonicalize_name(entry["name"]): Version(entry["version"])
            for entry in json.loads(text)
        }
    lines = (line.split("#")[0].strip() for line in text.splitlines())
    return dict(_entry(line, path) for line in lines if line)


def _entry(line: str, path: Path) -> tuple[str, Version | None]:
    found = _ENTRY.fullmatch(line)
    if found is None:
        raise ValueError(
            f"{path}: {line!r} is neither a name nor name==version; write the file there with "
            "pip list --format json"
        )
    return canonicalize_name(found[1]), Version(found[2]) if found[2] else None
