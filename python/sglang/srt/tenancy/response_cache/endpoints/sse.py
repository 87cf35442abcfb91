"""Server-sent events: cut out of a stream, read, and written."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable
from itertools import chain
from typing import Any

import orjson

DONE = b"data: [DONE]\n\n"

_BLANK_LINE = re.compile(rb"\r?\n\r?\n")

# Stands in a Frame's JSON for what is filled in. It cannot be told in advance, so no text holds it.
HOLE = f"hole-{secrets.token_hex(16)}"
_HOLE = orjson.dumps(HOLE)


class BrokenStream(ValueError):
    """A stream that says of itself that it failed, or that is no JSON."""


class Splitter:
    """Cuts bytes as they arrive into events, each with its blank line."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """Return the events that are whole now."""
        # The blank line may have begun in what came before.
        searched = max(0, len(self._buffer) - 3)
        self._buffer += data
        events, begin = [], 0
        for blank in _BLANK_LINE.finditer(self._buffer, searched):
            events.append(bytes(self._buffer[begin : blank.end()]))
            begin = blank.end()
        del self._buffer[:begin]
        return events

    @property
    def rest(self) -> bytes:
        """What came after the last whole event."""
        return bytes(self._buffer)


def read(event: bytes) -> tuple[str, bytes]:
    """Return an event's kind, "" where it has none, and its data."""
    if event.startswith(b"data: ") and event.find(b"\n", 6, -2) < 0:
        return "", event[6:].strip()
    kind, data = "", []
    for line in event.splitlines():
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"event":
            kind = value.decode(errors="replace")
        elif name == b"data":
            data.append(value)
    return kind, b"\n".join(data)


def objects(events: Iterable[bytes]) -> tuple[list[dict[str, Any]], bool]:
    """Return the JSON objects of a stream, and whether [DONE] came after them.

    Raises BrokenStream where an event tells of an error, or is no object.
    """
    found: list[dict[str, Any]] = []
    for event in events:
        kind, data = read(event)
        if data == b"[DONE]":
            return found, True
        if data:
            found.append(_object(kind, data))
    return found, False


def _object(kind: str, data: bytes) -> dict[str, Any]:
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise BrokenStream(f"an event is no JSON: {error}") from None
    if not isinstance(value, dict):
        raise BrokenStream(f"an event is no object: {type(value).__name__}")
    if kind == "error" or value.get("type") == "error" or value.get("error") is not None:
        raise BrokenStream("the stream tells of an error")
    return value


def written(value: Any, kind: str | None = None) -> bytes:
    """Write an event of a JSON value."""
    data = b"data: " + orjson.dumps(value) + b"\n\n"
    return data if kind is None else b"event: " + kind.encode() + b"\n" + data


class Frame:
    """An event with holes: what is the same in all events of a kind is written once."""

    def __init__(self, value: Any, kind: str | None = None) -> None:
        self._parts = written(value, kind).split(_HOLE)

    def filled(self, *values: bytes) -> bytes:
        """Return the event with JSON in its holes, in the order in which they stand in it."""
        first, *others = self._parts
        return first + b"".join(chain.from_iterable(zip(values, others, strict=True)))
