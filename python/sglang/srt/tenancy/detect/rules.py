"""The first tier: forms that can be checked, in all kinds of text and several languages."""

from __future__ import annotations

from collections.abc import Sequence

from sglang.srt.tenancy.detect.credentials import CREDENTIALS
from sglang.srt.tenancy.detect.finding import Finding, Text
from sglang.srt.tenancy.detect.numbers import NUMBERS
from sglang.srt.tenancy.detect.people import PEOPLE

RULES = (*NUMBERS, *CREDENTIALS, *PEOPLE)


def find(text: str, start: int = 0) -> list[Finding]:
    """All that the rules find from ``start`` on, in order. What is before is only context."""
    searched = Text(text, start)
    found = {finding for rule in RULES for finding in rule.findings(searched)}
    return sorted(found, key=lambda finding: (finding.start, finding.end, finding.kind))


class Rules:
    """The rules as a finder (``scan.Finder``)."""

    def find_all(self, texts: Sequence[tuple[str, int]]) -> list[list[Finding]]:
        return [find(text, start) for text, start in texts]
