"""Run what takes long for a long prompt in a thread: on the event loop all users would wait for it.

One after the other, however many users send some: the other core is the scheduler's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from sglang.srt.plugins.hook_registry import HookRegistry, HookSource, HookType
from sglang.srt.tenancy.http.request_body import body_size

T = TypeVar("T")

# Bytes, or characters: a chat template and a tokenizer need some 30 ms of one core for so many.
LARGE = 65_536

_OPENAI = "sglang.srt.entrypoints.openai"
# Coroutines of upstream's that wait for nothing, but tokenize what a body holds.
_TOKENIZING = (
    f"{_OPENAI}.serving_tokenize.OpenAIServingTokenize._handle_non_streaming_request",
    f"{_OPENAI}.serving_tokenize.OpenAIServingDetokenize._handle_non_streaming_request",
    f"{_OPENAI}.serving_responses.OpenAIServingResponses._make_request",
    "sglang.srt.entrypoints.anthropic.serving.AnthropicServing.handle_count_tokens",
)
_one_at_a_time = asyncio.Lock()


async def run_off_loop(function: Callable[..., T], *arguments: Any) -> T:
    """Call a function of what a request's body holds; in a thread, where the body is large."""
    if body_size.get() < LARGE:
        return function(*arguments)
    async with _one_at_a_time:
        return await asyncio.to_thread(function, *arguments)


async def finish_off_loop(coroutine: Coroutine[Any, Any, T], size: int) -> T:
    """Finish a coroutine that waits for nothing; in a thread, where ``size`` is large."""
    if size < LARGE:
        return await coroutine
    async with _one_at_a_time:
        return await asyncio.to_thread(asyncio.run, coroutine)


def install() -> None:
    """Have upstream's tokenizing endpoints run off the loop. To be applied by the registry."""
    for target in _TOKENIZING:
        if target not in HookRegistry._hooks:
            source = HookSource("tenant off loop", None)
            HookRegistry.register(target, _finish, HookType.AROUND, source=source)


async def _finish(original: Callable[..., Coroutine[Any, Any, T]], *args: Any, **kwargs: Any) -> T:
    return await finish_off_loop(original(*args, **kwargs), body_size.get())
