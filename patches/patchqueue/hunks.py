"""Say hunk by hunk what becomes of a series on another release. No fuzz here either."""

from __future__ import annotations

import ast
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Literal

from . import diff
from .repository import Patch

Outcome = Literal["applies", "moved", "breaks"]


@dataclass(frozen=True)
class HunkDrift:
    """What becomes of one hunk. `line`: where it is in the base's file, counted from 1."""

    patch: str
    path: str
    line: int
    outcome: Outcome
    detail: str


@dataclass(frozen=True)
class _Line:
    """A line of a file, and which line of upstream's it is; 0: a patch put it there."""

    text: bytes
    origin: int


@dataclass(frozen=True)
class _Place:
    """Where a hunk fits: its index in the file now, and the upstream line it begins at."""

    index: int
    origin: int


class _File:
    """One file of a release while patches are laid on it."""

    def __init__(self, content: bytes) -> None:
        self.lines = [_Line(text, at) for at, text in enumerate(diff.split_lines(content), 1)]
        self.scopes = _scopes(content)

    def places(self, hunk: diff.Hunk) -> list[_Place]:
        """Every place where all old lines of the hunk stand, one after the other."""
        size = len(hunk.old)
        texts = [line.text for line in self.lines]
        return [
            _Place(at, self._origin(at, size))
            for at in range(len(texts) - size + 1)
            if tuple(texts[at : at + size]) == hunk.old
        ]

    def replace(self, place: _Place, hunk: diff.Hunk) -> None:
        size = len(hunk.old)
        kept = {line.text: line.origin for line in self.lines[place.index : place.index + size]}
        new = [_Line(text, kept.get(text, 0)) for text in hunk.new]
        self.lines[place.index : place.index + size] = new

    def _origin(self, at: int, size: int) -> int:
        """The upstream line of the first line that is upstream's, or of the last one before."""
        inside = [line.origin for line in self.lines[at : at + size] if line.origin]
        before = [line.origin for line in self.lines[:at] if line.origin]
        return inside[0] if inside else before[-1] if before else 1

    def scope(self, line: int) -> str:
        """The innermost class or function around a line."""
        around = [name for begin, end, name in self.scopes if begin <= line <= end]
        return around[-1] if around else "the module"


def compare(
    patches: list[Patch],
    base: Callable[[str], bytes],
    other: Callable[[str], bytes],
    others: Collection[str],
) -> list[HunkDrift]:
    """Lay the series on both releases and compare where each hunk fits.

    `others`: the paths that the other release has. A hunk that breaks is left out, and those
    that rest on its lines then break too.
    """
    on_base: dict[str, _File] = {}
    on_other: dict[str, _File] = {}
    found: list[HunkDrift] = []
    for patch in patches:
        for path, file_diff in patch.diffs.items():
            old = on_base.setdefault(path, _File(base(path)))
            if path in others and path not in on_other:
                on_other[path] = _File(other(path))
            found += _compare_file(patch.name, path, file_diff, old, on_other.get(path))
    return found


def _compare_file(
    patch: str, path: str, file_diff: diff.FileDiff, old: _File, new: _File | None
) -> list[HunkDrift]:
    found = []
    shift = 0
    for hunk in file_diff.hunks:
        stated = hunk.old_start - 1 + shift
        was = min(old.places(hunk), key=lambda place: abs(place.index - stated))
        found.append(HunkDrift(patch, path, was.origin, *_fit(hunk, was, old, new)))
        old.replace(was, hunk)
        shift += len(hunk.new) - len(hunk.old)
    return found


def _fit(hunk: diff.Hunk, was: _Place, old: _File, new: _File | None) -> tuple[Outcome, str]:
    """Lay the hunk on the other release, where it fits."""
    if new is None:
        return "breaks", "the file is gone"
    places = new.places(hunk)
    same = [place for place in places if place.origin == was.origin]
    if not same and len(places) != 1:
        return "breaks", f"fits {len(places)} places" if places else _missing(hunk, old, new)
    place = (same or places)[0]
    scopes = old.scope(was.origin), new.scope(place.origin)
    new.replace(place, hunk)
    by = place.origin - was.origin
    told = [f"by {by:+} lines"] if by else []
    if scopes[0] != scopes[1]:
        told.append(f"from {scopes[0]} into {scopes[1]}: look there")
    return ("moved" if by else "applies"), ", ".join(told)


def _missing(hunk: diff.Hunk, old: _File, new: _File) -> str:
    present = {line.text for line in new.lines}
    upstreams = {line.text for line in old.lines if line.origin}
    gone = [line for line in hunk.old if line.strip() and line not in present]
    if not gone:
        return "its lines no longer stand together"
    if not any(line in upstreams for line in gone):
        return "rests on a patch before it, which breaks here"
    return "not found: " + ", ".join(f"`{line.decode(errors='replace').strip()}`" for line in gone)


def _scopes(content: bytes) -> list[tuple[int, int, str]]:
    """(first line, last line, qualified name) of each class and function, outer ones first."""
    try:
        tree = ast.parse(content)
    except SyntaxError:
        return []
    found: list[tuple[int, int, str]] = []
    _walk_scopes(tree, "", found)
    return found


def _walk_scopes(node: ast.AST, prefix: str, found: list[tuple[int, int, str]]) -> None:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            name = f"{prefix}{child.name}"
            found.append((child.lineno, child.end_lineno or child.lineno, name))
            _walk_scopes(child, f"{name}.", found)
        else:
            _walk_scopes(child, prefix, found)
