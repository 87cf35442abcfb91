"""Random final objects of the endpoints, as upstream answers whole."""

from __future__ import annotations

import string
from collections.abc import Callable, Sequence
from typing import Any

import orjson
from hypothesis import strategies as st

Object = dict[str, Any]

counts = st.integers(0, 2**40)
names = st.text(string.ascii_lowercase, min_size=1, max_size=8)
finish_reasons = st.sampled_from(("stop", "length"))
logprob_values = st.floats(-50, 0, allow_nan=False)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=5,
)


def splits(width: int) -> Callable[[str], Sequence[str]]:
    """Return what cuts a text every so many characters."""
    return lambda text: [text[at : at + width] for at in range(0, len(text), width)]


@st.composite
def texts_and_tokens(draw: st.DrawFn) -> tuple[str, list[str]]:
    """Tokens, and a text that they spell exactly, nearly, or not at all."""
    tokens = draw(st.lists(st.text(max_size=4), max_size=12))
    spelt = draw(st.sampled_from(("exactly", "without spaces", "broken", "not")))
    if spelt == "without spaces":
        return " ".join(tokens), tokens
    if spelt == "broken":
        text = "".join(tokens)
        return text, [token if len(token) % 2 else "\N{REPLACEMENT CHARACTER}" for token in tokens]
    return draw(st.text(max_size=30)) if spelt == "not" else "".join(tokens), tokens


@st.composite
def completion_choices(draw: st.DrawFn, index: int) -> Object:
    text, tokens = draw(texts_and_tokens())
    logprobs = {
        "text_offset": [-1] * len(tokens),
        "token_logprobs": [draw(st.none() | logprob_values) for _ in tokens],
        "tokens": tokens,
        "top_logprobs": draw(st.sampled_from(([], [{"a": -1.0}] * len(tokens)))),
    }
    choice: Object = {
        "index": index,
        "text": text,
        "logprobs": draw(st.sampled_from((None, logprobs))),
        "finish_reason": draw(finish_reasons),
        "matched_stop": draw(st.none() | st.integers(0, 300) | st.text(max_size=3)),
    }
    if draw(st.booleans()):
        choice["token_ids"] = draw(st.lists(st.integers(0, 300), max_size=15))
        choice["prompt_token_ids"] = draw(st.lists(st.integers(0, 300), min_size=1, max_size=5))
    if draw(st.booleans()):
        choice["hidden_states"] = [[0.5, 1.5]]
    return choice


objects = st.dictionaries(names, json_values, max_size=3)
tool_arguments = st.just("") | objects.map(lambda value: orjson.dumps(value).decode())


@st.composite
def chat_calls(draw: st.DrawFn) -> list[Object] | None:
    number = draw(st.integers(0, 3))
    calls = [
        {
            "id": f"call_{index}",
            "index": index,
            "type": "function",
            "function": {"name": draw(names), "arguments": draw(tool_arguments)},
        }
        for index in range(number)
    ]
    return calls or draw(st.sampled_from((None, [])))


@st.composite
def chat_choices(draw: st.DrawFn, index: int) -> Object:
    text, tokens = draw(texts_and_tokens())
    entries = [
        {"token": token, "bytes": list(token.encode()), "logprob": -1.0, "top_logprobs": []}
        for token in tokens
    ]
    cut = draw(st.integers(0, len(text)))
    message = {
        "role": "assistant",
        "content": draw(st.sampled_from((text[cut:], text, "", None))),
        "reasoning_content": draw(st.sampled_from((None, text[:cut]))),
        "tool_calls": draw(chat_calls()),
    }
    choice: Object = {
        "index": index,
        "message": message,
        "logprobs": draw(st.sampled_from((None, {"content": entries}))),
        "finish_reason": "tool_calls" if message["tool_calls"] else draw(finish_reasons),
        "matched_stop": draw(st.none() | st.integers(0, 300) | st.text(max_size=3)),
    }
    if draw(st.booleans()):
        choice["hidden_states"] = [[0.5, 1.5]]
    return choice


@st.composite
def choices_objects(draw: st.DrawFn, kind: str, choice: Callable[..., Any]) -> Object:
    value: Object = {
        "id": draw(st.text(max_size=8)),
        "object": kind,
        "created": draw(counts),
        "model": draw(st.text(max_size=8)),
        "choices": [draw(choice(index)) for index in range(draw(st.integers(1, 4)))],
        "usage": {
            "prompt_tokens": draw(counts),
            "completion_tokens": draw(counts),
            "prompt_tokens_details": draw(st.sampled_from((None, {"cached_tokens": 3}))),
        },
    }
    if draw(st.booleans()):
        value["system_fingerprint"] = draw(st.text(max_size=5))
    if draw(st.booleans()):
        value["sglext"] = {"cached_tokens_details": {"device": 3, "host": 0}}
    return value


@st.composite
def generate_samples(draw: st.DrawFn) -> Object:
    text, tokens = draw(texts_and_tokens())
    # No text comes without a token.
    ids = list(range(len(tokens) + draw(st.integers(0, 2)))) or ([0] if text else [])
    meta: Object = {
        "id": draw(names),
        "finish_reason": {"type": draw(st.sampled_from(("stop", "length"))), "matched": 7},
        "prompt_tokens": draw(counts),
        "weight_version": "default",
        "completion_tokens": len(ids),
        "e2e_latency": draw(st.floats(0, 100)),
    }
    if draw(st.booleans()):
        texts: list[str | None] = [*tokens] if draw(st.booleans()) else [None] * len(tokens)
        meta["output_token_logprobs"] = [[-0.5, 1, token] for token in texts]
        meta["output_token_logprobs_length"] = len(tokens)
    sample = {"text": text, "output_ids": ids, "meta_info": meta}
    if draw(st.booleans()):
        del sample["text"]
    return sample


@st.composite
def message_blocks(draw: st.DrawFn) -> Object:
    kind = draw(st.sampled_from(("text", "thinking", "tool_use", "unheard_of")))
    block: Object = {"type": kind}
    if kind in ("text", "thinking"):
        block[kind] = draw(st.text(max_size=20))
    if kind == "thinking" and draw(st.booleans()):
        block["signature"] = draw(st.text(min_size=1, max_size=8))
    if kind == "tool_use":
        block |= {"id": draw(names), "name": draw(names)}
        block["input"] = draw(objects)
    return block


@st.composite
def messages_objects(draw: st.DrawFn) -> Object:
    content = draw(st.lists(message_blocks(), min_size=1, max_size=5))
    called = any("input" in block for block in content)
    value: Object = {
        "id": draw(st.text(max_size=8)),
        "type": "message",
        "role": "assistant",
        "content": content,
        "model": draw(names),
        "stop_reason": "tool_use" if called else draw(st.sampled_from(("end_turn", "max_tokens"))),
        "usage": {"input_tokens": draw(counts), "output_tokens": draw(counts)},
    }
    if draw(st.booleans()):
        value["stop_sequence"] = draw(st.none() | st.text(max_size=3))
    if draw(st.booleans()):
        value["usage"]["cache_read_input_tokens"] = draw(counts)
    return value


@st.composite
def response_items(draw: st.DrawFn) -> Object:
    kind = draw(st.sampled_from(("message", "reasoning", "function_call", "web_search_call")))
    item: Object = {"id": draw(names), "type": kind, "status": "completed"}
    text = draw(st.text(max_size=20))
    if kind == "message":
        part: Object = {"type": "output_text", "text": text, "annotations": [], "logprobs": None}
        refusal = {"type": "refusal", "refusal": text}
        item |= {
            "role": "assistant",
            "content": draw(st.lists(st.sampled_from((part, refusal)), max_size=3)),
        }
    if kind == "reasoning":
        summary = [{"type": "summary_text", "text": text}]
        item["content"] = [{"type": "reasoning_text", "text": text}]
        item["summary"] = draw(st.sampled_from(([], summary)))
    if kind == "function_call":
        item |= {"call_id": draw(names), "name": draw(names), "arguments": draw(tool_arguments)}
    return item


@st.composite
def responses_objects(draw: st.DrawFn) -> Object:
    return {
        "id": draw(st.text(max_size=8)),
        "object": "response",
        "created_at": draw(counts),
        "model": draw(names),
        "output": draw(st.lists(response_items(), max_size=5)),
        "status": "completed",
        "usage": {"input_tokens": draw(counts), "output_tokens": draw(counts)},
        "tools": [],
        "text": draw(st.sampled_from((None, {"format": {"type": "text"}}))),
        "error": None,
    }


# By path.
final_objects: dict[str, st.SearchStrategy[Any]] = {
    "/generate": generate_samples() | st.lists(generate_samples(), min_size=1, max_size=4),
    "/v1/completions": choices_objects("text_completion", completion_choices),
    "/v1/chat/completions": choices_objects("chat.completion", chat_choices),
    "/v1/responses": responses_objects(),
    "/v1/messages": messages_objects(),
}
