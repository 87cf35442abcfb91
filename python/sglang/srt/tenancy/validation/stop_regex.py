"""Refuse patterns that could keep the scheduler searching.

Upstream searches each answer for its ``stop_regex`` after each token, with Python's ``re``, on the
scheduler's main thread, and decodes as many tokens for it as a match may have characters. ``re``
backtracks: ``(a+)+b`` takes a time that doubles with each letter, and every user would wait. So
the ways in which a pattern can match from one place are counted, and have a bound.
"""

from __future__ import annotations

import sys
from typing import Any

from sglang.srt.tenancy.errors import bad_field

if sys.version_info >= (3, 11):
    from re import _parser as parser
else:
    import sre_parse as parser

# Characters that a match may have, and ways to try it from one place.
MOST_CHARACTERS = 256
MOST_WAYS = 64
_FIELD = "stop_regex"

_ONE_CHARACTER = ("LITERAL", "NOT_LITERAL", "ANY", "IN")
_NO_CHARACTER = ("AT",)
_REPEATS = ("MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT")


def check_stop_regex(pattern: str) -> None:
    """Raise RequestError 400 for a pattern that is none, or may take long to search for."""
    try:
        parsed = parser.parse(pattern)
    except (ValueError, OverflowError, RecursionError, parser.error):  # type: ignore[attr-defined]
        raise bad_field(_FIELD, "no regular expression that can be read") from None
    try:
        characters, ways = _measure(parsed)
    except RecursionError:
        raise bad_field(_FIELD, "nested too deeply; make it simpler") from None
    if characters > MOST_CHARACTERS:
        raise bad_field(
            _FIELD,
            f"it may match more than {MOST_CHARACTERS} characters; bound its repeats, as {{0,64}}",
        )
    if ways > MOST_WAYS:
        raise bad_field(
            _FIELD,
            f"it may match in more than {MOST_WAYS} ways from one place; bound repeats more "
            "closely, and put none into another",
        )


def _measure(items: Any) -> tuple[int, int]:
    """Return the most characters that a parsed sequence matches, and in how many ways; either is
    only known to be too large where it is."""
    characters, ways = 0, 1
    for code, value in items:
        more, factor = _measure_one(str(code), value)
        characters = min(characters + more, MOST_CHARACTERS + 1)
        ways = min(ways * factor, MOST_WAYS + 1)
    return characters, ways


def _measure_one(code: str, value: Any) -> tuple[int, int]:
    if code in _ONE_CHARACTER:
        return 1, 1
    if code in _NO_CHARACTER:
        return 0, 1
    if code == "SUBPATTERN":
        return _measure(value[-1])
    if code == "ATOMIC_GROUP":
        return _measure(value)
    if code == "BRANCH":
        measured = [_measure(branch) for branch in value[1]]
        return max(chars for chars, _ in measured), sum(ways for _, ways in measured)
    if code in _REPEATS:
        return _measure_repeat(*value)
    raise bad_field(_FIELD, "it looks around, or back at a group; write it without")


def _measure_repeat(least: int, most: int, items: Any) -> tuple[int, int]:
    characters, ways = _measure(items)
    # Beyond so many times one of the bounds is passed, whatever is repeated.
    times = min(int(most), MOST_CHARACTERS + 1)
    if not characters and times > 1:
        times = MOST_WAYS + 1 if ways > 1 else 1
    total = 0
    for count in range(min(int(least), times), times + 1):
        total += ways**count if ways == 1 or count <= _LONGEST_POWER else MOST_WAYS + 1
        if total > MOST_WAYS:
            break
    return min(characters * times, MOST_CHARACTERS + 1), min(total, MOST_WAYS + 1)


_LONGEST_POWER = MOST_WAYS.bit_length()  # 2 to the power of it is too many ways
