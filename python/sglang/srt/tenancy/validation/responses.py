"""Refuse what /v1/responses would take, and break off in the middle of its stream.

Upstream builds the events of a stream from OpenAI's own types, which know less than it takes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

from openai.types.shared import Reasoning

from sglang.srt.tenancy.errors import bad_field

PATH = "/v1/responses"


def check_streamed(body: Mapping[str, Any]) -> None:
    """Raises RequestError 400 for a field that no event can repeat."""
    reasoning = body.get("reasoning")
    if body.get("stream") is not True or not isinstance(reasoning, dict):
        return
    effort = reasoning.get("effort")
    if isinstance(effort, str) and effort not in _EFFORTS:
        fault = f"{effort[:40]!r} cannot be streamed; give {', '.join(_EFFORTS)}, or do not stream"
        raise bad_field("reasoning.effort", fault)


def _efforts() -> tuple[str, ...]:
    """Return what the installed package of OpenAI's takes: Optional[Literal[...]]."""
    optional = Reasoning.model_fields["effort"].annotation
    return tuple(word for part in get_args(optional) for word in get_args(part))


_EFFORTS = _efforts()
