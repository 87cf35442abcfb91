"""Answer Anthropic's messages whose tool calls have no object as input: cut off, or made up.

Upstream fails on JSON that is no object (500), and logs what is no JSON: a user's data.
"""

from __future__ import annotations

from typing import Any

import orjson

from sglang.srt.plugins.hook_registry import HookRegistry, HookSource, HookType
from sglang.srt.tenancy.http.log import logger

_TARGET = "sglang.srt.entrypoints.anthropic.serving.AnthropicServing._convert_response"


def install() -> None:
    """Have such a call's input empty, as upstream has it. To be applied by the registry."""
    if _TARGET not in HookRegistry._hooks:
        source = HookSource("tenant anthropic tools", None)
        HookRegistry.register(_TARGET, _empty_bad_inputs, HookType.BEFORE, source=source)


def _empty_bad_inputs(_: Any, response: Any) -> None:
    for choice in response.choices:
        for call in choice.message.tool_calls or ():
            if not _is_object(call.function.arguments):
                logger.warning("A tool call's arguments are no JSON object; its input is empty")
                call.function.arguments = "{}"


def _is_object(arguments: str | None) -> bool:
    try:
        return isinstance(orjson.loads(arguments or ""), dict)
    except orjson.JSONDecodeError:
        return False
