"""What a caller may ask of an answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from typing_extensions import TypedDict

from .endpoint import Endpoint
from .errors import BadArgument
from .session_state import Message


class Options(TypedDict, total=False):
    """Fields of OpenAI's chat completions. Only those that are given are sent, as they are."""

    temperature: float
    top_p: float
    max_tokens: int
    max_completion_tokens: int
    stop: str | list[str]
    seed: int
    presence_penalty: float
    frequency_penalty: float
    logit_bias: dict[str, int]
    reasoning_effort: str
    response_format: dict[str, Any]
    extra_body: dict[str, Any]  # everything else: top_k, cache_scope, chat_template_kwargs, ...


_WAYS_OUT = {
    "n": "a conversation goes on with one answer; fork the session for others",
    "stream": "use stream() instead of ask()",
    "tools": "a session holds text; use the openai client that `client.openai` is",
    "messages": "a session keeps its own; use the openai client that `client.openai` is",
    "model": "name it in the Endpoint",
    "user": "name the user in the Endpoint",
    "user_id": "name the user in the Endpoint",
}


def check_options(options: Mapping[str, Any]) -> Options:
    """Return the options. Raises BadArgument for one that is not known, or cannot be."""
    for name in options:
        if name not in Options.__annotations__:
            way_out = _WAYS_OUT.get(name, "what this server alone knows goes into extra_body")
            raise BadArgument(name, f"is no option of a turn; {way_out}")
    extra = options.get("extra_body", {})
    if not isinstance(extra, Mapping):
        raise BadArgument("extra_body", f"{extra!r:.40} is no dictionary")
    return Options(**options)  # type: ignore[typeddict-item]


def merged(of_session: Mapping[str, Any], of_turn: Mapping[str, Any]) -> Options:
    """Return the session's options with the turn's, which win, field by field of ``extra_body``."""
    extra = {**of_session.get("extra_body", {}), **of_turn.get("extra_body", {})}
    both = {**of_session, **of_turn}
    return check_options({**both, "extra_body": extra} if extra else both)


def chat_request(
    endpoint: Endpoint, model: str, messages: list[Message], options: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the arguments of ``chat.completions.create``; always a stream, so that an answer that
    flows is never cut, and the time to its first token is known."""
    body = {**options.get("extra_body", {}), **endpoint.identity()}
    return {
        **options,
        "model": model,
        "messages": messages,
        "stream": True,
        "stream_options": {"include_usage": True},
        **({"extra_body": body} if body else {}),
    }
