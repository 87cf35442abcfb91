"""Requests to the endpoints whose answers are stored, for servers that parse what models write."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from sglang.srt.tenancy.response_cache.endpoints.endpoint import Body

GENERATE, COMPLETIONS, CHAT, RESPONSES, MESSAGES = (
    *("/generate", "/v1/completions", "/v1/chat/completions", "/v1/responses", "/v1/messages"),
)
SAID = [{"role": "user", "content": "tell me"}]
CITY = {
    "type": "object",
    "properties": {"city": {"enum": ["oslo", "rome"]}, "day": {"enum": [1, 2]}},
    "required": ["city", "day"],
    "additionalProperties": False,
}
FUNCTION = {"name": "weather", "description": "", "parameters": CITY, "strict": True}
CHAT_TOOLS = {"tools": [{"type": "function", "function": FUNCTION}], "tool_choice": "required"}
ONE = {"parallel_tool_calls": False}
RESPONSE_TOOLS = {"tools": [{"type": "function", **FUNCTION}], "tool_choice": "required"}
MESSAGE_TOOLS = {
    "tools": [{"name": "weather", "input_schema": CITY}],
    "tool_choice": {"type": "tool", "name": "weather"},
}
THOUGHT = "<think>[a-z]{9}</think>[a-z]{7}"
# The parser then looks for thoughts, and the grammar is not kept waiting for their end.
NOT_FORCED = {"chat_template_kwargs": {"enable_thinking": False}}
CALL = (
    '<tool_call>\\n\\{"name": "weather", "arguments": \\{"city": "(oslo|rome)"\\}\\}\\n</tool_call>'
)
CALLS = f"[a-z]{{5}}\\n{CALL}\\n{CALL}"
# Whole answers strip the text before calls, and number them by tool.
CALLS_LOST = tuple(
    f"choices.{name}" for name in ("matched_stop", "message.content", "message.tool_calls.index")
)
CALLED = {"tools": CHAT_TOOLS["tools"], **NOT_FORCED}


@dataclass(frozen=True)
class Case:
    """A request. ``lost``: what upstream's stream of it does not say as its whole answer does."""

    name: str
    path: str
    body: Body
    lost: frozenset[str] = field(default=frozenset())

    def __str__(self) -> str:
        return f"{self.path} {self.name}"


def generate(name: str, sampling: Body | None = None, **fields: Any) -> Case:
    params = {"temperature": 0, "max_new_tokens": 12, **(sampling or {})}
    return Case(name, GENERATE, {"text": "tell me", "sampling_params": params, **fields})


def completion(name: str, **fields: Any) -> Case:
    body = {"model": "demo", "prompt": "tell me", "max_tokens": 12, "temperature": 0, **fields}
    return Case(name, COMPLETIONS, body, frozenset(("metadata",)))


def chat(name: str, *lost: str, **fields: Any) -> Case:
    body = {"model": "demo", "messages": SAID, "max_tokens": 12, "temperature": 0, **fields}
    return Case(name, CHAT, body, frozenset(("metadata", *lost)))


def response(name: str, *lost: str, **fields: Any) -> Case:
    body = {
        "model": "demo",
        "input": "tell me",
        "max_output_tokens": 14,
        "temperature": 0,
        **fields,
    }
    return Case(name, RESPONSES, body, frozenset(lost))


def message(name: str, *lost: str, **fields: Any) -> Case:
    body = {"model": "demo", "messages": SAID, "max_tokens": 12, "temperature": 0, **fields}
    return Case(name, MESSAGES, body, frozenset(lost))


PLAIN = [
    generate("plain"),
    generate("logprobs", return_logprob=True, top_logprobs_num=2, return_text_in_logprobs=True),
    generate("logprobs of ids", return_logprob=True),
    generate("two samples", {"n": 2}),
    generate("stop", {"stop": ["e", "a"], "max_new_tokens": 100}),
    generate("nothing", {"max_new_tokens": 0}),
    completion("plain"),
    completion("logprobs", logprobs=2),
    completion("two samples", n=2, logprobs=1),
    completion("stop", stop=["e", "a"], max_tokens=100),
    completion("echo", echo=True),
    completion("echo with logprobs", echo=True, logprobs=1),
    completion("ids", return_token_ids=True),
    completion("usage so far", stream_options={"continuous_usage_stats": True}),
    chat("plain"),
    chat("logprobs", logprobs=True),
    chat("two samples", n=2),
    chat("usage so far", stream_options={"continuous_usage_stats": True}),
    chat("stop", stop=["e", "a"], max_tokens=100),
    response("plain"),
    message("plain"),
    message("stop", stop_sequences=["e", "a"], max_tokens=100),
]
THINKING = [
    generate("plain"),
    generate("logprobs", return_logprob=True, top_logprobs_num=2),
    generate("two samples", {"n": 2}),
    completion("plain", logprobs=1),
    chat("tools", *CALLS_LOST, regex=CALLS, max_tokens=300, **CALLED),
    chat("only reasoning"),
    chat("reasoning", regex=THOUGHT, max_tokens=100, **NOT_FORCED),
    chat("reasoning with logprobs", regex=THOUGHT, logprobs=True, max_tokens=100, **NOT_FORCED),
    response("reasoning", "output.status"),
    response("summary", "output.status", reasoning={"summary": "auto"}),
    message("reasoning"),
]
CALLING = [
    chat("tools", "choices.matched_stop", max_tokens=300, **ONE, **CHAT_TOOLS),
    chat(
        "tools with logprobs",
        "choices.matched_stop",
        max_tokens=300,
        logprobs=True,
        **ONE,
        **CHAT_TOOLS,
    ),
    chat("no call", tools=CHAT_TOOLS["tools"]),
    response("tools", max_output_tokens=300, **ONE, **RESPONSE_TOOLS),
    message("tools", max_tokens=300, **MESSAGE_TOOLS),
]
