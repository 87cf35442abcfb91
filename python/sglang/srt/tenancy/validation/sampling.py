"""Check sampling parameters before they are made into upstream's, which trusts them.

What the scheduler computes with must be of the right type, finite and in range: there an error ends
the server for all.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, get_type_hints

import msgspec

from sglang.srt.sampling.sampling_params import SamplingParams
from sglang.srt.tenancy.errors import bad_field
from sglang.srt.tenancy.validation.bounds import Bounds
from sglang.srt.tenancy.validation.stop_regex import check_stop_regex

# Fields that SamplingParams fills in itself.
_INTERNAL = {
    "stop_strs",
    "stop_regex_strs",
    "stop_str_max_len",
    "stop_regex_max_len",
    "is_normalized",
}
_TYPES = {
    name: hint for name, hint in get_type_hints(SamplingParams).items() if name not in _INTERNAL
}
_INT32 = 2**31 - 1
# From the least to the most; what has no entry is checked by SamplingParams.verify() alone.
_RANGES: dict[str, tuple[float, float]] = {
    "max_new_tokens": (0, _INT32),
    "min_new_tokens": (0, _INT32),
    "top_k": (-1, _INT32),
    "n": (1, _INT32),
    "stream_interval": (1, _INT32),
    "sampling_seed": (0, 2**63 - 1),
    "temperature": (0.0, 1e6),
    # Logits are divided by it: with less, half precision overflows to NaN.
    "repetition_penalty": (0.01, 2.0),
}
_MOST_BIAS = 10_000.0  # of a logit; far within half precision
# In the order in which the scheduler looks for them: it takes the first.
_GRAMMARS = ("json_schema", "regex", "ebnf", "structural_tag")
_LONGEST_STOP = 1024  # characters of a string that ends an answer


def check_sampling(params: Any, bounds: Bounds, vocab_size: int) -> None:
    """Check one prompt's sampling parameters. Raises RequestError 400 that names the field."""
    if not isinstance(params, dict):
        raise bad_field("sampling_params", f"{_kind(params)} is no object")
    for name, value in params.items():
        if value is not None:
            _check(name, value)
    _check_stops(params, bounds, vocab_size)
    _check_bias(params.get("logit_bias"), bounds, vocab_size)
    grammar_of(params, bounds)


def grammar_of(params: Mapping[str, Any], bounds: Bounds) -> tuple[str, str] | None:
    """Return the grammar that an answer must follow, and its field. Raises RequestError 400."""
    found = None
    for name in _GRAMMARS:
        grammar = params.get(name)
        if grammar is None:
            continue
        if not isinstance(grammar, str):
            raise bad_field(name, f"{_kind(grammar)} is not what it takes")
        if len(grammar.encode("utf-8", "replace")) > bounds.grammar_bytes:
            raise bad_field(name, f"more than {bounds.grammar_bytes} bytes; make it smaller")
        found = found or (name, grammar)
    return found


def _check(name: str, value: Any) -> None:
    if name not in _TYPES:
        raise bad_field(f"sampling_params.{name[:40]}", "unknown; leave it out")
    try:
        msgspec.convert(value, _TYPES[name])
    except (msgspec.ValidationError, TypeError, OverflowError, RecursionError):
        raise bad_field(name, f"{_kind(value)} is not what it takes") from None
    if isinstance(value, float) and not math.isfinite(value):
        raise bad_field(name, f"{value} is not finite")
    least, most = _RANGES.get(name, (-math.inf, math.inf))
    if isinstance(value, (int, float)) and not least <= value <= most:
        raise bad_field(name, f"{_shown(value)} is not within {least:g} and {most:g}")


def _check_stops(params: Mapping[str, Any], bounds: Bounds, vocab_size: int) -> None:
    held = 0
    for name in ("stop", "stop_regex", "stop_token_ids"):
        value = params.get(name) or ()
        ends = [value] if isinstance(value, str) else list(value)
        held += len(ends)
        if any(len(end) > _LONGEST_STOP for end in ends if isinstance(end, str)):
            raise bad_field(name, f"longer than {_LONGEST_STOP} characters")
        if name == "stop_regex":
            for pattern in ends:
                check_stop_regex(pattern)
    if held > bounds.stops:
        raise bad_field("stop", f"{held} ends of an answer; give at most {bounds.stops}")
    for token in params.get("stop_token_ids") or ():
        if token is not None and not 0 <= token < vocab_size:
            raise bad_field("stop_token_ids", f"{_shown(token)} is no token of {vocab_size}")


def _check_bias(bias: Mapping[str, float] | None, bounds: Bounds, vocab_size: int) -> None:
    if not bias:
        return
    if len(bias) > bounds.logit_bias:
        raise bad_field("logit_bias", f"{len(bias)} tokens; give at most {bounds.logit_bias}")
    for token, value in bias.items():
        if not (token.isascii() and token.isdigit() and len(token) <= 12):
            raise bad_field("logit_bias", f"{token[:40]!r} is no token id")
        if int(token) >= vocab_size:
            raise bad_field("logit_bias", f"{token} is no token of {vocab_size}")
        if not abs(value) <= _MOST_BIAS:
            raise bad_field("logit_bias", f"{value} is not within ±{_MOST_BIAS:g}")


def _kind(value: Any) -> str:
    return f"a value of type {type(value).__name__}"


def _shown(number: float) -> str:
    return f"{number}" if abs(number) < 2**63 else "a number of more than 64 bits"
