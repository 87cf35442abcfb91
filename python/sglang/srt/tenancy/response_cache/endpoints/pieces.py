"""Cutting a text into what the events of its stream hold."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

# Characters between one token's text and the next one's that are put up with: decoded alone, a
# token may lack its space, and part of a character is written as U+FFFD.
SLACK = 4
# More than that is no text of these tokens.
MOST_SLACK = 64


@dataclass(frozen=True, slots=True)
class Piece:
    """``tokens``: how many it is made of."""

    text: str
    tokens: int


def at_tokens(text: str, tokens: Sequence[str], begin: int = 0) -> tuple[list[Piece], int] | None:
    """Cut a text where its tokens end, beginning with token ``begin``.

    Returns the pieces, and the first token after the text. What stands before it, as what opens a
    thought, are pieces without text. None where these are not its tokens.
    """
    found = "".join(tokens[begin:]).find(text) if text else 0
    if found < 0:
        return _nearly_at_tokens(text, tokens, begin)
    pieces: list[Piece] = []
    at, number = -found, begin
    while at < len(text):
        end = at + len(tokens[number])
        pieces.append(Piece(text[max(at, 0) : max(end, 0)], 1))
        at, number = end, number + 1
    return pieces, number


def _nearly_at_tokens(
    text: str, tokens: Sequence[str], begin: int
) -> tuple[list[Piece], int] | None:
    """Cut a text where tokens end that do not spell it exactly."""
    pieces: list[Piece] = []
    at, pending, slack, number = 0, 0, SLACK, begin
    while at < len(text) and number < len(tokens):
        token = tokens[number]
        number += 1
        pending += 1
        found = text.find(token, at, at + len(token) + slack) if token else -1
        if found >= 0:
            end = found + len(token)
            pieces.append(Piece(text[at:end], pending))
            at, pending, slack = end, 0, SLACK
        else:
            slack += len(token)
            if slack > MOST_SLACK:
                return None
    if at < len(text):
        if len(text) - at > slack:
            return None
        last = pieces.pop() if pieces and not pending else Piece("", pending)
        pieces.append(Piece(last.text + text[at:], last.tokens))
    return pieces, number


def shared(texts: Sequence[str], tokens: int) -> list[Piece]:
    """Give each text its share of the tokens."""
    count = max(len(texts), 1)
    ends = [number * tokens // count for number in range(len(texts) + 1)]
    return [Piece(text, ends[n + 1] - ends[n]) for n, text in enumerate(texts)]


def joined(texts: Sequence[str], number: int) -> list[str]:
    """Join texts evenly to so many."""
    ends = [each * len(texts) // max(number, 1) for each in range(number + 1)]
    return ["".join(texts[ends[each] : ends[each + 1]]) for each in range(number)]


def cut(values: Sequence[Any], part: tuple[int, int, int]) -> Sequence[Any]:
    """Return the values from one token to another. ``part``: which ones, and of how many."""
    begin, end, total = part
    if total == 0:
        return values
    return values[begin * len(values) // total : end * len(values) // total]


def in_turns(streams: Iterable[Iterable[bytes]]) -> Iterator[bytes]:
    """Take one event of each stream after the other, until all have ended."""
    for events in zip_longest(*streams):
        yield from (event for event in events if event is not None)


def text_of(value: Any) -> str:
    """Return a text that may be missing."""
    return value if isinstance(value, str) else ""
