"""Tool calls without an object as input become messages of Anthropic's, and no line of the log."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from sglang.srt.entrypoints.anthropic.serving import AnthropicServing
from sglang.srt.entrypoints.openai.protocol import ChatCompletionResponse
from sglang.srt.plugins.hook_registry import HookRegistry
from sglang.srt.tenancy.http import anthropic_tools

SECRET = "hunter2"


def answered(arguments: str | None) -> Any:
    call = {"id": "c", "index": 0, "function": {"name": "f", "arguments": arguments}}
    message = {"role": "assistant", "content": None, "tool_calls": [call]}
    choice = {"index": 0, "message": message, "finish_reason": "length"}
    usage = {"prompt_tokens": 1, "total_tokens": 2, "completion_tokens": 1}
    chat = ChatCompletionResponse(id="x", model="demo", choices=[choice], usage=usage)
    return AnthropicServing._convert_response(object.__new__(AnthropicServing), chat)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ('{"a": 1}', {"a": 1}),
        (f'["{SECRET}"]', {}),
        (f'"{SECRET}"', {}),
        ("5", {}),
        ("null", {}),
        (f'{{"a": "{SECRET}', {}),
        ("", {}),
        (None, {}),
    ],
    ids=["object", "list", "text", "number", "null", "cut off", "empty", "none"],
)
def test_a_call_s_input_is_an_object(
    caplog: pytest.LogCaptureFixture, arguments: str | None, expected: dict[str, Any]
) -> None:
    anthropic_tools.install()
    HookRegistry.apply_hooks()
    with caplog.at_level(logging.DEBUG):
        block = answered(arguments).content[-1]
    assert block.input == expected
    assert SECRET not in caplog.text
