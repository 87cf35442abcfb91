"""Cut a text into pieces of about a token, where there is no tokenizer."""

from __future__ import annotations

import re

_PIECE = re.compile(r"\s*\S{1,12}|\s+")


def words(text: str) -> list[str]:
    """Return pieces that, joined, are the text: words with the space before them, long ones cut."""
    return _PIECE.findall(text)
