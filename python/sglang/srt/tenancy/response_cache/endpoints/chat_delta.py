"""A chat's message, put together from what the chunks of a stream add to it."""

from __future__ import annotations

from typing import Any

from sglang.srt.tenancy.response_cache.endpoints.endpoint import Body

# Said once, even where a server repeats them in each chunk.
_SAID_ONCE = ("role", "id", "type", "name", "index")


def add(message: Body, delta: Body) -> None:
    """Add a delta: texts are joined, lists and objects too, calls of tools by their index."""
    for name, value in delta.items():
        before = message.get(name)
        if value is None or before is None:
            message[name] = _begun(name, value) if before is None else before
        elif name == "tool_calls":
            _add_calls(before, value)
        elif isinstance(before, str) and isinstance(value, str):
            message[name] = before if name in _SAID_ONCE else before + value
        elif isinstance(before, list) and isinstance(value, list):
            before.extend(value)
        elif isinstance(before, dict) and isinstance(value, dict):
            add(before, value)
        else:
            message[name] = value


def _begun(name: str, value: Any) -> Any:
    if name != "tool_calls" or not isinstance(value, list):
        return value
    calls: list[Body] = []
    _add_calls(calls, value)
    return calls


def _add_calls(calls: list[Body], deltas: list[Body]) -> None:
    for delta in deltas:
        index = delta.get("index")
        found = next((call for call in calls if call.get("index") == index), None)
        if found is None or index is None:
            calls.append(dict(delta))
        else:
            add(found, delta)
