"""Write the report on what another release of upstream's means for the fork, in Markdown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import groupby

from . import hunks, names
from .code import Code
from .repository import Repository
from .wheel import WheelFiles


def report(repository: Repository, base: WheelFiles, other: WheelFiles, version: str) -> list[str]:
    """Compare the base's wheel with another release's. Returns the report's lines."""
    drifts = hunks.compare(repository.patches(), base.read, other.read, other.names)
    own = {path: file.read_bytes() for path, file in repository.own_files().items()}
    used, changed = names.compare(
        own, _with_own(base, own), _with_own(other, own), lambda name: _is_own(name, own)
    )
    return [
        f"# From {repository.upstream_version} to {version}",
        "",
        f"`python patches/series.py drift {version}` wrote this from both releases' sources; "
        f"{version} is not pinned, so its wheel was checked against no hash.",
        "",
        *_patches(drifts),
        *_names(used, changed),
    ]


def _with_own(wheel: WheelFiles, own: dict[str, bytes]) -> Code:
    return Code(wheel.names | set(own), lambda path: own[path] if path in own else wheel.read(path))


def _is_own(dotted: str, own: dict[str, bytes]) -> bool:
    """Whether this is a module of ours, a name in one, or a folder of ours."""
    path = dotted.replace(".", "/")
    above = path.rpartition("/")[0]
    return any(
        f"{part}.py" in own or f"{part}/__init__.py" in own for part in (path, above) if part
    )


def _patches(drifts: list[hunks.HunkDrift]) -> Iterator[str]:
    counts = Counter(drift.outcome for drift in drifts)
    yield "## Hunks"
    yield ""
    yield (
        f"Of {len(drifts)}, {counts['applies']} apply where they did, {counts['moved']} at another "
        f"line, {counts['breaks']} break. Nothing is guessed: every line of a hunk must be there."
    )
    yield ""
    yield from _table(("patch", "applies", "moved", "breaks"), _totals(drifts))
    yield from _table(
        ("patch", "place", "", ""),
        (
            (drift.patch, f"`{drift.path}:{drift.line}`", drift.outcome, drift.detail)
            for drift in drifts
        ),
    )


def _totals(drifts: list[hunks.HunkDrift]) -> Iterator[tuple[str, ...]]:
    for patch, group in groupby(drifts, key=lambda drift: drift.patch):
        counts = Counter(drift.outcome for drift in group)
        yield patch, str(counts["applies"]), str(counts["moved"]), str(counts["breaks"])


def _names(used: int, changed: list[names.NameDrift]) -> Iterator[str]:
    counts = Counter(drift.change for drift in changed)
    yield "## Names"
    yield ""
    yield (
        f"Of {used} of upstream's names that `python/sglang` is seen to use, {counts['gone']} are "
        f"gone and {counts['signature']} are called otherwise. In signatures `=` marks what may be "
        "left out. A class that is gone is one row, without its members; so is one whose members "
        "its syntax does not tell. What travels without a type annotation is not seen."
    )
    yield ""
    yield from _table(
        ("name", "", "", "used in"),
        (
            (
                f"`{drift.name}`",
                drift.change,
                drift.detail,
                ", ".join(f"`{user.removeprefix('sglang/srt/')}`" for user in drift.users),
            )
            for drift in changed
        ),
    )


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    lines = [_row(row) for row in rows]
    if lines:
        yield _row(head)
        yield "|" + "---|" * len(head)
        yield from lines
        yield ""


def _row(cells: tuple[str, ...]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
