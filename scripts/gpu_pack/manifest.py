"""What is in a pack: each file, its size and hash, what it is for, and its license."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from email.message import Message
from pathlib import Path
from typing import Any

MANIFEST, SUMS = "manifest.json", "SHA256SUMS"
_CLASSIFIER = "License :: OSI Approved :: "
_MOST_SHOWN = 8
_SMALL = 300_000  # bytes; such parts share a row


class TooLarge(ValueError):
    """The pack is over its limit; the message names its largest parts."""


@dataclass(frozen=True)
class Part:
    """One file. ``packed``: the bytes it takes in the archive. ``less``: what it lacks, and why."""

    file: str
    bytes: int
    packed: int
    sha256: str
    why: str
    license: str
    less: str = ""


def describe(
    folder: Path, file: str, packed: int, why: str, license_name: str, less: str = ""
) -> Part:
    """Measure a file of the folder."""
    content = (folder / file).read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    return Part(file, len(content), packed, digest, why, license_name, less)


def license_of(metadata: Message) -> str:
    """Name the license that a wheel's metadata names, in one of three places."""
    if expression := metadata["License-Expression"]:
        return str(expression)
    classifiers = metadata.get_all("Classifier", [])
    names = [c.removeprefix(_CLASSIFIER) for c in classifiers if c.startswith(_CLASSIFIER)]
    if names:
        return " / ".join(names)
    lines = str(metadata["License"] or "").strip().splitlines()
    return lines[0].strip() if lines else "in the wheel"


def check_size(folder: Path, parts: list[Part], limit: int) -> int:
    """Return the bytes of all files of the pack. Raises TooLarge."""
    total = sum(path.stat().st_size for path in folder.iterdir())
    if total > limit:
        largest = sorted(parts, key=lambda part: -part.packed)[:_MOST_SHOWN]
        lines = "\n".join(f"{part.packed / 1e6:8.1f} MB  {part.file}" for part in largest)
        raise TooLarge(
            f"the pack has {total / 1e6:.1f} MB, more than the {limit / 1e6:.1f} MB of "
            f"--limit-mb; its largest parts:\n{lines}\nSay with --present what the machine has, "
            "leave more out (scripts/gpu_pack/parts.toml), or raise the limit"
        )
    return total


def write(folder: Path, facts: Mapping[str, Any], parts: list[Part]) -> None:
    """Write the manifest, and the hashes of the pack's own files for sha256sum."""
    content = {**facts, "parts": [asdict(part) for part in parts]}
    (folder / MANIFEST).write_text(json.dumps(content, indent=1) + "\n")
    lines = [
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n"
        for path in sorted(folder.iterdir())
        if path.name != SUMS
    ]
    (folder / SUMS).write_text("".join(lines))


def as_table(parts: list[Part]) -> str:
    """Return the parts as a table of docs/gpu.md, the largest first, the small ones together."""
    rows = ["| part | MB | what for | license |", "|---|---|---|---|"]
    ordered = sorted(parts, key=lambda part: -part.packed)
    for part in (part for part in ordered if part.packed >= _SMALL):
        why = part.why + (f"; without {part.less}" if part.less else "")
        rows.append(f"| {_short(part)} | {part.packed / 1e6:.1f} | {why} | {part.license} |")
    small = [part for part in ordered if part.packed < _SMALL]
    names = ", ".join(sorted({_short(part) for part in small}))
    rows.append(f"| {names} | {sum(part.packed for part in small) / 1e6:.1f} | | |")
    return "\n".join(rows) + "\n"


def _short(part: Part) -> str:
    path = Path(part.file)
    if path.suffix != ".whl":
        return f"`{path.parent.name or path.name}`"
    name, version = path.name.split("-")[:2]
    return f"{name.replace('_', '-')} {version}"
