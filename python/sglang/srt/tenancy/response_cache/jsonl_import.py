"""Read the JSON Lines file of a caching proxy that kept a list of answers per request.

A line is one object: the request, under one of several names, or in the key itself, and its
answers. Keys that are only a hash are not used: they leave out fields that change the answer, so
what has no whole request beside is left out.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

_GENERATE, _COMPLETIONS, _CHAT = "/generate", "/v1/completions", "/v1/chat/completions"
_REQUEST = ("request", "request_data", "body", "payload", "normalized_request", "params")
_ANSWERS = ("responses", "response", "completions", "answers", "values", "value")
_ENDPOINT = ("endpoint", "path", "route")


class Imported(NamedTuple):
    """``answers``: final objects of the endpoint, as JSON; each a sample of its own."""

    endpoint: str
    request: dict[str, Any]
    answers: list[bytes]


class _LeftOut(Exception):
    """A line of which nothing can be used, and why."""


def read(path: Path, left_out: Counter[str]) -> Iterator[Imported]:
    """Yield what can be used; count lines that are left out, by reason. Raises OSError."""
    with path.open("rb") as lines:
        for line in lines:
            if not line.strip():
                continue
            try:
                yield _read_line(line)
            except _LeftOut as reason:
                left_out[str(reason)] += 1


def _read_line(line: bytes) -> Imported:
    try:
        fields = json.loads(line, parse_constant=_no_number, parse_float=_number)
    except (ValueError, RecursionError):
        raise _LeftOut("no JSON") from None
    if not isinstance(fields, dict):
        raise _LeftOut("no object")
    request = _request(fields)
    endpoint = _endpoint(fields, request)
    answers = _answers(fields)
    if not all(_is_of(endpoint, answer) for answer in answers):
        raise _LeftOut("answers in another form than the request's")
    return Imported(endpoint, request, [json.dumps(answer).encode() for answer in answers])


def _request(fields: Mapping[str, Any]) -> dict[str, Any]:
    for name in _REQUEST:
        if isinstance(fields.get(name), dict):
            return dict(fields[name])
    key = fields.get("key")
    if isinstance(key, str):
        try:
            key = json.loads(key)
        except (ValueError, RecursionError):
            key = None
    if isinstance(key, dict):
        return key
    raise _LeftOut("no request beside the key")


def _endpoint(fields: Mapping[str, Any], request: Mapping[str, Any]) -> str:
    """Tell which one was asked: by the line's word, or by the request's fields."""
    named = next((fields[name] for name in _ENDPOINT if isinstance(fields.get(name), str)), None)
    if isinstance(request.get("messages"), list):
        found = _CHAT
    elif isinstance(request.get("prompt"), (str, list)):
        found = _COMPLETIONS
    elif isinstance(request.get("text"), str) or isinstance(request.get("input_ids"), list):
        found = _GENERATE
    else:
        # Also a chat's messages in /generate's field, where a template was still to come.
        raise _LeftOut("a request of no endpoint that is known")
    if named is not None and f"/{named.strip('/')}" != found:
        raise _LeftOut("a request of another endpoint than it says")
    return found


def _answers(fields: Mapping[str, Any]) -> list[dict[str, Any]]:
    found = next((fields[name] for name in _ANSWERS if fields.get(name)), None)
    answers: list[Any] = found if isinstance(found, list) else [found]
    if not all(isinstance(answer, dict) for answer in answers):
        raise _LeftOut("no answers")
    return answers


def _is_of(endpoint: str, answer: Mapping[str, Any]) -> bool:
    """Tell whether an answer is one that the endpoint gives."""
    if endpoint == _GENERATE:
        return isinstance(answer.get("text"), str) or isinstance(answer.get("output_ids"), list)
    choices = answer.get("choices")
    if not isinstance(choices, list) or not choices:
        return False
    field, kind = ("message", dict) if endpoint == _CHAT else ("text", str)
    return all(isinstance(each, dict) and isinstance(each.get(field), kind) for each in choices)


def _number(text: str) -> float:
    value = float(text)
    return value if math.isfinite(value) else _no_number(text)


def _no_number(text: str) -> float:
    raise ValueError(f"{text} is no JSON number")
