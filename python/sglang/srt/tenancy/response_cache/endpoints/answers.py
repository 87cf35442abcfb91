"""What final objects of several endpoints have in common."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import orjson

# What reading JSON of another shape than the endpoint's raises.
MALFORMED = (TypeError, ValueError, KeyError, IndexError, AttributeError, RecursionError)

_ID_FIRST = re.compile(rb'\{"id":"[^"\\]*"')


def loaded(answer: bytes) -> Any:
    """Read a final object; None where it is no JSON."""
    try:
        return orjson.loads(answer)
    except orjson.JSONDecodeError:
        return None


def loaded_object(answer: bytes) -> dict[str, Any]:
    """Read a final object; empty where it is none."""
    value = loaded(answer)
    return value if isinstance(value, dict) else {}


def with_id(answer: bytes, rid: str) -> bytes:
    """Return a final object with another ``id``."""
    found = _ID_FIRST.match(answer)
    if found is not None:
        return b'{"id":' + orjson.dumps(rid) + answer[found.end() :]
    return orjson.dumps(loaded_object(answer) | {"id": rid})


def total(usages: Iterable[Any]) -> dict[str, Any] | None:
    """Add up what several answers took; None where none of them says."""
    added: dict[str, Any] = {}
    known = [usage for usage in usages if isinstance(usage, Mapping)]
    for usage in known:
        for name, value in usage.items():
            added[name] = _plus(added.get(name), value)
    return added if known else None


def _plus(one: Any, other: Any) -> Any:
    if one is None or other is None:
        return one if other is None else other
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return total((one, other))
    numbers = isinstance(one, (int, float)) and isinstance(other, (int, float))
    return one + other if numbers else other


def uncut(text: str) -> list[str]:
    """Leave a text in one piece."""
    return [text]


def can_be_read(events: Iterable[bytes]) -> bool:
    """Tell whether a replay comes to its end."""
    try:
        for _ in events:
            pass
    except MALFORMED:
        return False
    return True
