"""Sessions in a file: JSON, for its owner's eyes only, whole or not at all."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from .errors import BadArgument
from .session_state import Bounds, SessionState, Turn

VERSION = 1
_MODE = 0o600


def save(path: Path, states: Sequence[SessionState]) -> None:
    """Write the sessions. What was in the file stays where that fails, at whatever point."""
    content = {"version": VERSION, "sessions": [asdict(state) for state in states]}
    written = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with open(written, "x", encoding="utf-8", opener=_for_owner) as file:
            json.dump(content, file, ensure_ascii=False, indent=1)
            file.flush()
            os.fsync(file.fileno())
        os.replace(written, path)
    except BaseException:
        written.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _for_owner(path: str, flags: int) -> int:
    return os.open(path, flags, _MODE)


def load(path: Path) -> list[SessionState]:
    """Read the sessions. Raises BadArgument, which names file and field, and OSError."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise BadArgument(str(path), f"is no JSON: {error}") from None
    fields = _object(str(path), content)
    version = fields.get("version")
    if version != VERSION:
        raise BadArgument(
            f"{path}: version", f"{version!r} is not {VERSION}; save the sessions with this client"
        )
    sessions = fields.get("sessions")
    if not isinstance(sessions, list):
        raise BadArgument(f"{path}: sessions", "is no list; save the sessions anew")
    return [_state(f"{path}: sessions[{at}]", entry) for at, entry in enumerate(sessions)]


def _state(where: str, entry: Any) -> SessionState:
    fields = dict(_object(where, entry))
    turns = fields.pop("turns", None)
    if not isinstance(turns, list):
        raise BadArgument(f"{where}.turns", "is no list; save the sessions anew")
    fields["turns"] = tuple(
        _build(f"{where}.turns[{at}]", Turn, _object(where, turn)) for at, turn in enumerate(turns)
    )
    bounds = _object(f"{where}.bounds", fields.pop("bounds", None))
    fields["bounds"] = _build(f"{where}.bounds", Bounds, bounds)
    return _build(where, SessionState, fields)


# What JSON may hold under these names: else a fault would show in the middle of a later turn.
_TYPES: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("name", "key", "user", "assistant"), (str,)),
    **dict.fromkeys(("system", "forked_from"), (str, type(None))),
    **dict.fromkeys(("tokens", "prompt_tokens", "completion_tokens"), (int, type(None))),
    **dict.fromkeys(("created", "used", "keep"), (int, float)),
    "turns": (int, tuple, type(None)),
    "bounds": (Bounds,),
    "options": (dict,),
}


def _build(where: str, kind: Callable[..., Any], fields: dict[str, Any]) -> Any:
    for name, value in fields.items():
        if name not in _TYPES:
            raise BadArgument(f"{where}.{name}", "is not known; save the sessions anew")
        if not isinstance(value, _TYPES[name]) or isinstance(value, bool):
            raise BadArgument(f"{where}.{name}", f"{value!r:.40} cannot be; save the sessions anew")
    try:
        return kind(**fields)
    except BadArgument as error:
        raise BadArgument(f"{where}.{error.field}", str(error)) from None
    except TypeError:
        raise BadArgument(where, "lacks a field; save the sessions anew") from None


def _object(where: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise BadArgument(where, f"{value!r:.40} is no object; save the sessions anew")
    return value
