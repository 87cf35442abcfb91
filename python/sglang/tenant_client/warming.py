"""Computing a prefix before it is asked for, and looking whether it is there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

import openai

from .errors import BrokenAnswer
from .failures import may_pass
from .session_state import Message, message
from .steps import Call, Chat, Reply, Steps

# Two conversations that have all of the prefix in common, and nothing after it. Some templates make
# no conversation of a system prompt alone.
_LOOKS = (".", "?")
# Computed, whatever a response cache has: what that tells may be long ago.
_COMPUTED = {"Cache-Control": "no-store"}
_LARGEST_PAGE = 64  # tokens; servers cache whole pages, and tell users no page size


@dataclass(frozen=True)
class Warmth:
    """What is known of a prefix that was warmed.

    ``prefix_tokens``: what all conversations that begin with it have in common, by the server's own
    chat template and tokenizer. ``cached_tokens``: how many of them a second conversation found.
    ``confirmed``: all of them, but for less than a page of 64. None: unknown; ``reason`` says why.
    """

    confirmed: bool | None
    reason: str
    prefix_tokens: int | None = None
    cached_tokens: int | None = None


def warm(system: str, options: Mapping[str, Any]) -> Steps[Warmth]:
    """Have the first endpoint compute a system prompt, and look whether it kept it.

    ``options``: of the turns to come; ``extra_body`` may say how the template writes them.
    """
    least: dict[str, Any] = {"max_tokens": 1, "temperature": 0, "extra_headers": _COMPUTED}
    if "extra_body" in options:
        least["extra_body"] = options["extra_body"]
    looks = [[message("system", system), message("user", text)] for text in _LOOKS]
    found = None
    try:
        for look in looks:
            answer = yield Chat(look, least)
            found = answer.figures.cached_tokens
    except (openai.OpenAIError, BrokenAnswer) as error:
        if not isinstance(error, BrokenAnswer) and not may_pass(error):
            raise
        return Warmth(None, f"not computed: {error}")
    replies = []
    for look in looks:
        replies.append((yield tokenize(look, options)))
    return judge(_in_common([_tokens(reply) for reply in replies]), found)


def tokenize(messages: Sequence[Message], options: Mapping[str, Any]) -> Call:
    """Return the question which tokens a chat request with these messages consists of."""
    kwargs = options.get("extra_body", {}).get("chat_template_kwargs")
    body: dict[str, Any] = {"messages": list(messages)}
    if kwargs is not None:
        body["chat_template_kwargs"] = kwargs
    return Call("POST", "/tokenize", body)


def _tokens(reply: Reply) -> list[int] | None:
    tokens = reply.content.get("tokens") if reply.ok and isinstance(reply.content, dict) else None
    return tokens if isinstance(tokens, list) else None


def common_length(one: Sequence[int], other: Sequence[int]) -> int:
    """Return how many tokens both begin with."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))


def _in_common(renderings: list[list[int] | None]) -> int | None:
    one, other = renderings
    return None if one is None or other is None else common_length(one, other)


def judge(prefix: int | None, cached: int | None) -> Warmth:
    """Say what follows from two counts. Nothing is claimed where either is not known."""
    if cached is None:
        reason = "the server reports no cached tokens (--enable-cache-report), or found none"
        return Warmth(None, reason, prefix, None)
    if prefix is None:
        reason = f"{cached} tokens found; the server has no /tokenize to say of how many"
        return Warmth(None, reason, None, cached)
    confirmed = cached > prefix - _LARGEST_PAGE and 2 * cached > prefix
    return Warmth(confirmed, f"{cached} of {prefix} tokens found", prefix, cached)
