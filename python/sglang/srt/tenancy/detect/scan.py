"""Scan token ids for what is sensitive: what of them is new is read, the rest remembered."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import NamedTuple, Protocol

from sglang.srt.tenancy.detect.finding import LONGEST, Finding
from sglang.srt.tenancy.detect.scan_cache import CHUNK, Mark, ScanCache
from sglang.srt.tenancy.detect.vocabulary import TokenText, characters

# What ends a text may be the beginning of an item that the next request has all of. The longest
# that the rules know by form alone, with spaces, are IBANs (42 characters), keys and mail.
TAIL = 64  # characters
MOST_HINTS = 4  # that one text leaves to the judge
AROUND = 240  # characters that a judge is shown on each side of a hint


class Finder(Protocol):
    """A tier that reads text."""

    def find_all(self, texts: Sequence[tuple[str, int]]) -> list[list[Finding]]:
        """Find what begins in each text from the given character on."""


class Hint(NamedTuple):
    """Token ``start`` begins what a judge has to decide on."""

    start: int
    excerpt: str


class PromptScan(NamedTuple):
    """What was found in one prompt, in tokens. Nothing sensitive is in the first ``harmless``;
    ``sensitive`` is the first that is. ``hints``, in order: those that, if all are cleared, make
    the first ``possible`` harmless. ``kinds``: of what was found; ``read``: characters that were
    not remembered. ``known``: whether the ids have text at all."""

    harmless: int
    sensitive: int | None
    hints: tuple[Hint, ...]
    possible: int
    kinds: tuple[str, ...]
    read: int
    known: bool = True


NO_TEXT = PromptScan(0, None, (), 0, (), 0, known=False)


@dataclass
class _Reading:
    """One prompt while it is scanned. ``first``: the token at which ``text`` begins."""

    ids: Sequence[int]
    names: list[bytes]
    known: int  # tokens whose marks are remembered
    marks: list[Mark]
    first: int
    settled: int  # from this token on, marks are looked for
    text: TokenText


class Scanner:
    """Scans prompts with one or several finders. Not for several threads."""

    def __init__(
        self,
        vocabulary: Sequence[bytes],
        finders: Sequence[Finder],
        cache: ScanCache | None = None,
        excerpts: bool = False,
    ):
        self.cache = ScanCache() if cache is None else cache
        self._vocabulary = vocabulary
        self._widths = [characters(piece) for piece in vocabulary]
        self._finders = finders
        self._excerpts = excerpts

    def scan(self, prompts: Sequence[Sequence[int]]) -> list[PromptScan]:
        """Scan each prompt's token ids; a result for each, in the same order."""
        readings = [self._open(ids) for ids in prompts]
        to_read = [reading for reading in readings if reading is not None]
        texts = [(reading.text.text, 0) for reading in to_read]
        for finder in self._finders:
            for reading, findings in zip(to_read, finder.find_all(texts), strict=True):
                self._mark(reading, findings)
        return [NO_TEXT if reading is None else self._conclude(reading) for reading in readings]

    def _open(self, ids: Sequence[int]) -> _Reading | None:
        names = self.cache.names(ids)
        count, marks = self.cache.longest(names)
        known = count * CHUNK
        try:
            settled = self._back(ids, known, LONGEST)
            first = self._back(ids, settled, LONGEST)
            if any(mark.sure for mark in marks):  # whatever comes after it stays private
                first = settled = len(ids)
            text = TokenText(self._vocabulary, ids[first:])
        except IndexError:
            return None
        return _Reading(ids, names, known, list(marks), first, settled, text)

    def _back(self, ids: Sequence[int], at: int, width: int) -> int:
        """Find the last token at least ``width`` characters before token ``at``, or 0."""
        while at > 0 and width > 0:
            at -= 1
            width -= self._widths[ids[at]]
        return at

    def _mark(self, reading: _Reading, findings: Sequence[Finding]) -> None:
        for kind, start, end, sure in findings:
            begin = reading.first + reading.text.token_at(start)
            if begin >= reading.settled:
                behind = reading.first + reading.text.token_at(end - 1) + 1
                reading.marks.append(Mark(begin, behind, kind, sure))

    def _conclude(self, reading: _Reading) -> PromptScan:
        reading.marks.sort()
        self._remember(reading)
        marks, ids = reading.marks, reading.ids
        sensitive = next((mark.start for mark in marks if mark.sure), None)
        tail = self._back(ids, len(ids), TAIL)
        possible = tail if sensitive is None else min(tail, sensitive)
        starts = sorted({mark.start for mark in marks if not mark.sure and mark.start < possible})
        harmless = starts[0] if starts else possible
        if len(starts) > MOST_HINTS:
            possible = starts[MOST_HINTS]
        hints: tuple[Hint, ...] = ()
        if self._excerpts:
            hints = tuple(Hint(at, self._excerpt(ids, at)) for at in starts[:MOST_HINTS])
        kinds = tuple(sorted({mark.kind for mark in marks}))
        return PromptScan(harmless, sensitive, hints, possible, kinds, len(reading.text.text))

    def _excerpt(self, ids: Sequence[int], at: int) -> str:
        end, width = at, AROUND + LONGEST
        while end < len(ids) and width > 0:
            width -= self._widths[ids[end]]
            end += 1
        text = TokenText(self._vocabulary, ids[self._back(ids, at, AROUND) : end]).text
        return text.encode(errors="ignore").decode(errors="ignore")

    def _remember(self, reading: _Reading) -> None:
        """Keep the marks on each chunk's end.

        What begins less than the longest item before it may look different when other text
        follows: it is read again.
        """
        first, marks = reading.first, reading.marks
        widths = [self._widths[id_] for id_ in reading.ids[first:]]
        before = [0, *accumulate(widths)]  # characters before each token from ``first`` on
        for count in range(reading.known // CHUNK, len(reading.names)):
            end = (count + 1) * CHUNK
            if end <= first:
                continue
            at = bisect_right(before, before[end - first] - LONGEST) - 1
            settled = first + at if at >= 0 else 0
            # What ends before does not depend on what follows, wherever it begins.
            kept = tuple(mark for mark in marks if mark.start < settled)
            self.cache.keep(reading.names[count], kept)
