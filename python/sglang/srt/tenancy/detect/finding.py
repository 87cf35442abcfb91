"""What a detector finds in a text, and the form that its rules have."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

# No rule matches more characters than this: text is searched in pieces that overlap by as much.
LONGEST = 256

Span = tuple[int, int]


class Finding(NamedTuple):
    """``text[start:end]`` is of this kind. ``sure``: sensitive; else a hint, left open."""

    kind: str
    start: int
    end: int
    sure: bool


class Text:
    """Text to be searched from ``start`` on; what is before is context."""

    def __init__(self, text: str, start: int = 0):
        self.plain = plain(text)
        self.start = start

    @cached_property
    def lower(self) -> str:
        """In small letters, each at its place."""
        return self.plain.replace("\u0130", "I").lower()

    @cached_property
    def numbers(self) -> list[Span]:
        """Where six or more digits stand close together, with some text around."""
        spans: list[Span] = []
        for match in _DIGITS.finditer(self.plain, max(0, self.start - LONGEST)):
            start, end = max(self.start, match.start() - 64), match.end() + 32
            if spans and start <= spans[-1][1]:
                spans[-1] = (spans[-1][0], end)
            else:
                spans.append((start, end))
        return spans

    @cached_property
    def chinese(self) -> bool:
        return _HAN.search(self.plain) is not None

    def occurrences(self, words: tuple[str, ...]) -> Iterator[int]:
        """Find where any of the words begins, word for word."""
        for word in words:
            if word[0] >= "\u3400" and not self.chinese:
                continue
            at = self.lower.find(word, self.start)
            while at >= 0:
                yield at
                at = self.lower.find(word, at + 1)


_DIGITS = re.compile(r"[0-9](?:[ .()/:·+-]{0,2}[A-Z]?[0-9]){5}[0-9]*")
_HAN = re.compile(r"[\u3400-\u9fff]")


@dataclass(frozen=True)
class Rule:
    """A pattern, where to try it, and what its matches have to pass besides.

    ``pattern``: of plain text; its group ``it`` is the item, where there is one. ``words``:
    lower-case; every match holds one of them, at most ``before`` characters behind its begin.
    ``digits``: every match holds six digits close together. Without either, all text is tried.
    ``check``: whether a matched item is one.
    """

    kind: str
    pattern: re.Pattern[str]
    words: tuple[str, ...] = ()
    check: Callable[[str], bool] | None = None
    sure: bool = True
    before: int = 0
    digits: bool = False

    def findings(self, text: Text) -> Iterator[Finding]:
        for match in self._matches(text):
            group = "it" if "it" in self.pattern.groupindex else 0
            yield Finding(self.kind, match.start(group), match.end(group), self.sure)

    def _matches(self, text: Text) -> Iterator[re.Match[str]]:
        if self.words and not self.before:
            for at in text.occurrences(self.words):
                match = self.pattern.match(text.plain, at)
                if match is not None and self._is_one(match):
                    yield match
        elif self.words:
            for at in text.occurrences(self.words):
                start = max(text.start, at - self.before)
                yield from self._search(text.plain, start, at + LONGEST)
        elif self.digits:
            for start, end in text.numbers:
                yield from self._search(text.plain, start, end)
        else:
            yield from self._search(text.plain, text.start, len(text.plain))

    def _search(self, text: str, at: int, end: int) -> Iterator[re.Match[str]]:
        while (match := self.pattern.search(text, at, end)) is not None:
            if self._is_one(match):
                yield match
                at = max(match.end(), match.start() + 1)
            else:
                # What was refused may hold, or overlap with, something that is not.
                at = match.start() + 1

    def _is_one(self, match: re.Match[str]) -> bool:
        group = "it" if "it" in self.pattern.groupindex else 0
        return self.check is None or self.check(match[group])


# One character for one, so that offsets stay: full-width forms, and digits of other scripts.
_PLAIN = {0xFF01 + i: 0x21 + i for i in range(94)}
_PLAIN |= {base + i: 0x30 + i for base in (0x0660, 0x06F0, 0x0966) for i in range(10)}
_PLAIN |= {0x3000: 0x20, 0x00A0: 0x20, 0x2007: 0x20, 0x202F: 0x20}
_PLAIN |= dict.fromkeys((8208, 8209, 8210, 8211, 8722), 45)
_NOT_PLAIN = re.compile(f"[{''.join(re.escape(chr(code)) for code in _PLAIN)}]")


def plain(text: str) -> str:
    """Return the text with ASCII digits, letters, spaces and hyphens, character for character."""
    return text.translate(_PLAIN) if _NOT_PLAIN.search(text) else text
