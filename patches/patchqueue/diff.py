"""Unified diffs on bytes: read, apply, reverse, write. No fuzz anywhere."""

from __future__ import annotations

import difflib
import io
import re
from dataclasses import dataclass, replace

from .errors import Refusal

_RANGE = re.compile(rb"^@@ -(\d+)(?:,(\d+))? \+(\d+)(?:,(\d+))? @@")
_NO_NEWLINE = b"\\ No newline at end of file\n"


@dataclass(frozen=True)
class Hunk:
    """One change. Line numbers count from 1; `old` and `new` include the context lines."""

    old_start: int
    new_start: int
    old: tuple[bytes, ...]
    new: tuple[bytes, ...]
    added: int
    removed: int

    def reversed(self) -> Hunk:
        return Hunk(self.new_start, self.old_start, self.new, self.old, self.removed, self.added)


@dataclass(frozen=True)
class FileDiff:
    """All hunks for one file. `path` is as in the diff, without `a/` and `b/`."""

    path: str
    hunks: tuple[Hunk, ...]
    raw: bytes

    @property
    def touched(self) -> int:
        """Added plus removed lines."""
        return sum(hunk.added + hunk.removed for hunk in self.hunks)

    def reversed(self) -> FileDiff:
        return replace(self, hunks=tuple(hunk.reversed() for hunk in self.hunks), raw=b"")


def split_lines(content: bytes) -> list[bytes]:
    """Lines with their ends; only LF ends a line, so CR and form feed survive."""
    return io.BytesIO(content).readlines()


def parse(text: bytes) -> list[FileDiff]:
    """Read a diff that changes existing text files.

    Raises Refusal for anything else: a new, deleted, renamed or binary file, or a broken hunk.
    """
    lines = split_lines(text)
    files: list[FileDiff] = []
    at = 0
    while at < len(lines):
        if lines[at].startswith((b"diff --git ", b"index ")) or not lines[at].strip():
            at += 1
            continue
        begin = at
        path, at = _parse_names(lines, at)
        hunks: list[Hunk] = []
        while at < len(lines) and lines[at].startswith(b"@@ "):
            hunk, at = _parse_hunk(lines, at)
            hunks.append(hunk)
        if not hunks:
            raise Refusal(f"{path}: no hunk follows its name")
        files.append(FileDiff(path, tuple(hunks), b"".join(lines[begin:at])))
    return files


def _parse_names(lines: list[bytes], at: int) -> tuple[str, int]:
    pair = lines[at : at + 2]
    if len(pair) < 2 or not pair[0].startswith(b"--- ") or not pair[1].startswith(b"+++ "):
        raise Refusal(
            f"line {at + 1} of the diff is neither a file name nor a hunk: "
            f"{lines[at].decode(errors='replace').rstrip()!r}; "
            "a patch only changes text files that upstream has"
        )
    old, new = (line[4:].split(b"\t")[0].strip().decode() for line in pair)
    if not old.startswith("a/") or not new.startswith("b/") or old[2:] != new[2:]:
        raise Refusal(
            f"{old} -> {new}: a patch changes a file in place (a/PATH -> b/PATH); "
            "new files belong under python/sglang/"
        )
    return old[2:], at + 2


def _parse_hunk(lines: list[bytes], at: int) -> tuple[Hunk, int]:
    match = _RANGE.match(lines[at])
    if match is None:
        raise Refusal(f"line {at + 1} of the diff: broken hunk line {lines[at]!r}")
    old_start, old_count, new_start, new_count = (
        int(number) if number is not None else 1 for number in match.groups()
    )
    where = at + 1
    at += 1
    old: list[bytes] = []
    new: list[bytes] = []
    added = removed = 0
    while at < len(lines) and (len(old) < old_count or len(new) < new_count):
        mark, body = lines[at][:1], lines[at][1:]
        if mark not in (b" ", b"-", b"+"):
            break
        sides = [side for side, marks in ((old, b" -"), (new, b" +")) if mark in marks]
        added += mark == b"+"
        removed += mark == b"-"
        at += 1
        if at < len(lines) and lines[at].startswith(b"\\"):
            body = body[:-1]
            at += 1
        for side in sides:
            side.append(body)
    if len(old) != old_count or len(new) != new_count:
        raise Refusal(
            f"line {where} of the diff: the hunk holds {len(old)} old and {len(new)} new lines, "
            f"its first line says {old_count} and {new_count}"
        )
    if not old or not new:
        raise Refusal(f"line {where} of the diff: the hunk has no context line")
    return Hunk(old_start, new_start, tuple(old), tuple(new), added, removed), at


def apply(content: bytes, diff: FileDiff) -> tuple[bytes, bool]:
    """Return the changed content, and whether any hunk was found away from its stated line.

    Raises Refusal when a hunk fits nowhere, or not at its line and in several other places.
    """
    lines = split_lines(content)
    out: list[bytes] = []
    at = shift = 0
    moved = False
    for hunk in diff.hunks:
        position = _locate(lines, hunk, hunk.old_start - 1 + shift, at, diff.path)
        shift = position - (hunk.old_start - 1)
        moved = moved or shift != 0
        out += lines[at:position]
        out += hunk.new
        at = position + len(hunk.old)
    return b"".join(out + lines[at:]), moved


def _locate(lines: list[bytes], hunk: Hunk, stated: int, start: int, path: str) -> int:
    size = len(hunk.old)
    block = list(hunk.old)
    if stated >= start and lines[stated : stated + size] == block:
        return stated
    found = [at for at in range(start, len(lines) - size + 1) if lines[at : at + size] == block]
    if len(found) == 1:
        return found[0]
    first = next(line for line in sorted(block, key=lambda line: -len(line.strip())))
    fault = "is nowhere in the file" if not found else f"fits {len(found)} places"
    raise Refusal(
        f"{path}: the hunk for line {hunk.old_start} {fault} "
        f"(it holds {first.decode(errors='replace').strip()!r})"
    )


def make(path: str, old: bytes, new: bytes, context: int = 1) -> FileDiff:
    """The diff from old to new with as few context lines as asked for."""
    before, after = split_lines(old), split_lines(new)
    matcher = difflib.SequenceMatcher(None, before, after, autojunk=False)
    out = [f"--- a/{path}\n+++ b/{path}\n".encode()]
    for group in matcher.get_grouped_opcodes(context):
        out.append(_range_line(group))
        for kind, a1, a2, b1, b2 in group:
            if kind == "equal":
                out += [_marked(b" ", line) for line in before[a1:a2]]
                continue
            out += [_marked(b"-", line) for line in before[a1:a2]]
            out += [_marked(b"+", line) for line in after[b1:b2]]
    return parse(b"".join(out))[0]


def _range_line(group: list[tuple[str, int, int, int, int]]) -> bytes:
    a1, a2, b1, b2 = group[0][1], group[-1][2], group[0][3], group[-1][4]
    return f"@@ -{a1 + 1},{a2 - a1} +{b1 + 1},{b2 - b1} @@\n".encode()


def _marked(mark: bytes, line: bytes) -> bytes:
    if line.endswith(b"\n"):
        return mark + line
    return mark + line + b"\n" + _NO_NEWLINE
