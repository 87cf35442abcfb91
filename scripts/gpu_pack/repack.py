"""Write a wheel anew for a pack: without the files that nobody needs there, and uncompressed.

It still installs: RECORD lists what is in it, and the build number says that something is missing.
"""

from __future__ import annotations

import base64
import csv
import fnmatch
import hashlib
import io
import shutil
import subprocess
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

BUILD = "0part"  # the build number of a wheel that lacks files
_DATE = (1980, 1, 1, 0, 0, 0)  # the same input gives the same bytes


@dataclass(frozen=True)
class Trim:
    """Shell patterns of paths in a wheel, in which ``*`` matches slashes too.

    ``leave_out``: files that stay behind. ``strip``: libraries that lose their debug information.
    """

    leave_out: Sequence[str] = ()
    strip: Sequence[str] = ()
    why: str = ""


class NothingMatches(ValueError):
    """A pattern matches nothing: the wheel is not laid out as it was."""


class NoStrip(RuntimeError):
    """Debug information cannot be taken out here."""


def repack(wheel: Path, trim: Trim, into: Path) -> Path:
    """Write the wheel without what `trim` takes out; return its path.

    Stored, not compressed: what holds all wheels compresses them together.
    Raises NothingMatches and NoStrip.
    """
    name, version, *tags = wheel.name.split("-")
    build = [BUILD] if trim.leave_out or trim.strip else tags[:-3]
    made = into / "-".join([name, version, *build, *tags[-3:]])
    info = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(wheel) as source:
        kept = _kept(source, trim, wheel)
        changed = {n: _stripped(source.read(n)) for n in _matching(kept, trim.strip)}
        if build:
            header = source.read(f"{info}/WHEEL")
            changed[f"{info}/WHEEL"] = _with_build(header, "-".join(build))
        record = f"{info}/RECORD"
        changed[record] = _record(source.read(record), kept, changed)
        with zipfile.ZipFile(made, "w") as target:
            for path in kept:
                _copy(source, path, changed.get(path), target)
    return made


def _kept(source: zipfile.ZipFile, trim: Trim, wheel: Path) -> list[str]:
    names = [entry.filename for entry in source.infolist() if not entry.is_dir()]
    for pattern in (*trim.leave_out, *trim.strip):
        if not _matching(names, [pattern]):
            raise NothingMatches(
                f"{wheel.name} has no file that matches {pattern!r}: "
                "look into the wheel and correct scripts/gpu_pack/parts.toml"
            )
    gone = _matching(names, trim.leave_out)
    return [name for name in names if name not in gone]


def _matching(names: Sequence[str], patterns: Sequence[str]) -> set[str]:
    return {n for n in names if any(fnmatch.fnmatchcase(n, pattern) for pattern in patterns)}


def _stripped(library: bytes) -> bytes:
    program = shutil.which("strip")
    if program is None:
        raise NoStrip("strip is not on PATH: install binutils")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "library.so"
        file.write_bytes(library)
        done = subprocess.run([program, "--strip-debug", file], capture_output=True, text=True)
        if done.returncode:
            raise NoStrip(f"strip cannot read a library for x86-64:\n{done.stderr.strip()}")
        return file.read_bytes()


def _with_build(header: bytes, build: str) -> bytes:
    lines = [line for line in header.decode().splitlines() if line and line[:6] != "Build:"]
    return "\n".join([*lines, f"Build: {build}", ""]).encode()


def _record(old: bytes, kept: Sequence[str], changed: Mapping[str, bytes]) -> bytes:
    """Return the old lines of what is kept, with new hashes where the content is new."""
    names = set(kept)
    out = io.StringIO()
    lines = csv.writer(out, lineterminator="\n")
    for row in csv.reader(old.decode().splitlines()):
        if row and row[0] in changed:
            content = changed[row[0]]
            digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=")
            lines.writerow([row[0], f"sha256={digest.decode()}", len(content)])
        elif row and row[0] in names:
            lines.writerow(row)
    return out.getvalue().encode()


def _copy(
    source: zipfile.ZipFile, path: str, instead: bytes | None, target: zipfile.ZipFile
) -> None:
    written = zipfile.ZipInfo(path, _DATE)
    written.external_attr = source.getinfo(path).external_attr  # a program stays one
    target.writestr(written, source.read(path) if instead is None else instead)
