"""What an operator writes to name a public prefix: in a request, or in the config file."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

SourceKind = Literal["text", "messages", "input_ids"]

MAX_PREFIXES = 256
MAX_TOKENS = 131_072  # per prefix

_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
_KINDS: tuple[SourceKind, ...] = ("text", "messages", "input_ids")
_FIELDS = ("name", *_KINDS, "tools", "warm")


class PrefixSpecError(ValueError):
    """A description that cannot be used. ``field``: the part at fault."""

    def __init__(self, field: str, problem: str):
        super().__init__(f"{field}: {problem}")
        self.field = field
        self.problem = problem


@dataclass(frozen=True, slots=True)
class PrefixSpec:
    """A prefix as it was described; ``value`` is a string, messages or token ids.

    ``name`` is None where the digest of the tokens is to be its name. ``warm``: it is to be
    computed at once.
    """

    name: str | None
    kind: SourceKind
    value: Any
    tools: list[dict[str, Any]] | None = None
    warm: bool = False


def parse_prefix_spec(data: Mapping[str, Any]) -> PrefixSpec:
    """Check everything that needs no tokenizer. Raises PrefixSpecError."""
    for field in data:
        if field not in _FIELDS:
            raise PrefixSpecError(field, f"not a field here; known are {', '.join(_FIELDS)}")
    given = [kind for kind in _KINDS if data.get(kind) is not None]
    if not given:
        raise PrefixSpecError("text", "missing; give one of text, messages, input_ids")
    if len(given) > 1:
        raise PrefixSpecError(given[1], f"given beside {given[0]}; give one of them")
    kind = given[0]
    value, tools = data[kind], data.get("tools")
    _CHECKS[kind](value)
    if tools is not None:
        if kind != "messages":
            raise PrefixSpecError(
                "tools", f"without meaning beside {kind}; give them with messages"
            )
        _check_objects("tools", tools)
    name = None if data.get("name") is None else check_name(data["name"])
    warm = data.get("warm", False)
    if not isinstance(warm, bool):
        raise PrefixSpecError("warm", f"{_short(warm)} is neither true nor false")
    return PrefixSpec(name, kind, value, tools, warm)


def check_name(value: Any) -> str:
    """Return the value, if it may name a prefix. Raises PrefixSpecError."""
    if isinstance(value, str) and _NAME.fullmatch(value):
        return value
    raise PrefixSpecError("name", f"{_short(value)} is no name; give 1 to 64 of A-Z a-z 0-9 . _ -")


def _check_text(value: Any) -> None:
    if not isinstance(value, str) or not value:
        raise PrefixSpecError("text", f"{_short(value)} is no text; give a non-empty string")


def _check_input_ids(value: Any) -> None:
    if not isinstance(value, list) or not value:
        raise PrefixSpecError("input_ids", f"{_short(value)} is no list of token ids; give one")
    for token in value:
        # A bool is an int to Python, and no token to anybody.
        if type(token) is not int or token < 0:
            raise PrefixSpecError(
                "input_ids", f"{_short(token)} is no token id; give integers from 0"
            )


def _check_objects(field: str, value: Any) -> None:
    if isinstance(value, list) and value and all(isinstance(v, dict) for v in value):
        return
    raise PrefixSpecError(field, "write a non-empty list of objects, as for /v1/chat/completions")


_CHECKS = {
    "text": _check_text,
    "messages": lambda value: _check_objects("messages", value),
    "input_ids": _check_input_ids,
}


def _short(value: Any) -> str:
    """Show enough to recognize a mistake by; what may hold a prompt is not shown."""
    if isinstance(value, (list, dict)):
        return f"{'an empty' if not value else 'a'} {type(value).__name__}"
    shown = repr(value)
    return shown if len(shown) <= 32 else f"{shown[:32]}…"
