"""The first tier: forms that can be checked, in all kinds of text and several languages."""

from __future__ import annotations

from collections.abc import Sequence

from sglang.srt.tenancy.detect.credentials import CREDENTIALS
from sglang.srt.tenancy.detect.finding import Finding, Text
from sglang.srt.tenancy.detect.numbers import NUMBERS
from sglang.srt.tenancy.detect.people import PEOPLE

RULES = (*NUMBERS, *CREDENTIALS, *PEOPLE)


def find(text: str, start: int = 0) -> list[Finding]:
    """Find all from ``start`` on, in order. What is before is only context.

    What is a part of something longer that is sure is not named again: an IBAN has digits that
    some country would take for a telephone number.
    """
    searched = Text(text, start)
    # A dictionary, so that of rules that find the same the first one names it.
    spans = {
        (one.start, -one.end, one.sure): one
        for rule in reversed(RULES)
        for one in rule.findings(searched)
    }
    found, sure_to = [], -1
    for _, one in sorted(spans.items()):
        if one.end > sure_to:
            found.append(one)
            sure_to = one.end if one.sure else sure_to
    return found


class Rules:
    """The rules as a finder (``scan.Finder``)."""

    def find_all(self, texts: Sequence[tuple[str, int]]) -> list[list[Finding]]:
        return [find(text, start) for text, start in texts]
