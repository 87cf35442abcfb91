"""Tell whether a request is always answered alike: by the temperature that it resolves to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

# As upstream's sampling parameters: below it, the likeliest token is taken.
_LEAST = 1e-6
_UNSET = 1.0  # OpenAI's default; any that is not 0 does
_NATIVE, _COMPLETIONS, _RESPONSES = "/generate", "/v1/completions", "/v1/responses"


@dataclass(frozen=True, slots=True)
class Defaults:
    """Sampling parameters that a server takes where a request names none, by kind of endpoint."""

    native: Mapping[str, Any] = field(default_factory=dict)
    completions: Mapping[str, Any] = field(default_factory=dict)
    chat: Mapping[str, Any] = field(default_factory=dict)
    responses: Mapping[str, Any] = field(default_factory=dict)


def is_greedy(path: str, body: Mapping[str, Any], defaults: Defaults) -> bool:
    """Tell whether all samples that a request asks for are the likeliest tokens."""
    if path == _NATIVE:
        asked = body.get("sampling_params")
        each = asked if isinstance(asked, list) else [asked or {}]
        return bool(each) and all(_is_greedy(one, defaults.native) for one in each)
    if path == _COMPLETIONS:
        return _is_greedy(body, defaults.completions)
    return _is_greedy(body, defaults.responses if path == _RESPONSES else defaults.chat)


def _is_greedy(asked: Any, default: Mapping[str, Any]) -> bool:
    if not isinstance(asked, dict):
        return False
    temperature = asked.get("temperature")
    if temperature is None:
        temperature = default.get("temperature", _UNSET)
    if asked.get("top_k", default.get("top_k")) == 1:
        return True
    return isinstance(temperature, int | float) and 0 <= temperature < _LEAST
