"""Know each endpoint that a user can ask: a request that works, and the fields it may hold.

The fields are upstream's own, read from its classes: those of the next release come by themselves.
"""

from __future__ import annotations

import copy
import dataclasses
import random
from dataclasses import dataclass
from typing import Any

from values import draw

from sglang.srt.entrypoints.anthropic.protocol import (
    AnthropicCountTokensRequest,
    AnthropicMessagesRequest,
)
from sglang.srt.entrypoints.ollama.protocol import OllamaChatRequest, OllamaGenerateRequest
from sglang.srt.entrypoints.openai.protocol import (
    ChatCompletionRequest,
    CompletionRequest,
    DetokenizeRequest,
    EmbeddingRequest,
    ResponsesRequest,
    ScoringRequest,
    TokenizeRequest,
    V1RerankReqInput,
)
from sglang.srt.managers.io_struct import (
    CloseSessionReqInput,
    EmbeddingReqInput,
    GenerateReqInput,
    OpenSessionReqInput,
    ParseFunctionCallReq,
    SeparateReasoningReqInput,
    SessionParams,
    VertexGenerateReqInput,
)
from sglang.srt.sampling.sampling_params import SamplingParams

MODEL = "demo"
MESSAGES = [{"role": "user", "content": "Hello"}]
FEW = {"max_new_tokens": 2}


@dataclass(frozen=True)
class Endpoint:
    """``request``: one that is answered. ``inner``: fields of an object in it, by its name."""

    path: str
    request: dict[str, Any]
    fields: tuple[str, ...]
    inner: dict[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)


@dataclass(frozen=True)
class Case:
    path: str
    body: dict[str, Any]


def _names(kind: Any) -> tuple[str, ...]:
    if dataclasses.is_dataclass(kind):
        return tuple(field.name for field in dataclasses.fields(kind))
    return tuple(getattr(kind, "model_fields", None) or kind.__struct_fields__)


_SAMPLING = {"sampling_params": _names(SamplingParams), "session_params": _names(SessionParams)}
_CHAT = {"model": MODEL, "messages": MESSAGES, "max_tokens": 2}

ENDPOINTS = (
    Endpoint(
        "/generate",
        {"text": "Hello", "sampling_params": FEW},
        _names(GenerateReqInput),
        _SAMPLING,
    ),
    Endpoint(
        "/v1/completions",
        {"model": MODEL, "prompt": "Hello", "max_tokens": 2},
        _names(CompletionRequest),
    ),
    Endpoint("/v1/chat/completions", _CHAT, _names(ChatCompletionRequest)),
    Endpoint("/invocations", _CHAT, _names(ChatCompletionRequest)),
    Endpoint(
        "/v1/responses",
        {"model": MODEL, "input": "Hello", "max_output_tokens": 2},
        _names(ResponsesRequest),
    ),
    Endpoint("/v1/messages", _CHAT, _names(AnthropicMessagesRequest)),
    Endpoint(
        "/v1/messages/count_tokens",
        {"model": MODEL, "messages": MESSAGES},
        _names(AnthropicCountTokensRequest),
    ),
    Endpoint("/tokenize", {"model": MODEL, "prompt": "Hello"}, _names(TokenizeRequest)),
    Endpoint("/detokenize", {"model": MODEL, "tokens": [1, 2]}, _names(DetokenizeRequest)),
    Endpoint(
        "/v1/score",
        {"model": MODEL, "query": "a", "items": ["b"], "label_token_ids": [1]},
        _names(ScoringRequest),
    ),
    Endpoint("/v1/embeddings", {"model": MODEL, "input": "Hello"}, _names(EmbeddingRequest)),
    Endpoint("/v1/rerank", {"query": "a", "documents": ["b"]}, _names(V1RerankReqInput)),
    Endpoint("/encode", {"text": "Hello"}, _names(EmbeddingReqInput), _SAMPLING),
    Endpoint("/classify", {"text": "Hello"}, _names(EmbeddingReqInput), _SAMPLING),
    Endpoint(
        "/vertex_generate",
        {"instances": [{"text": "Hello"}], "parameters": {"sampling_params": FEW}},
        _names(VertexGenerateReqInput),
        {"parameters": _names(GenerateReqInput)},
    ),
    Endpoint(
        "/api/generate",
        {"model": MODEL, "prompt": "Hello", "options": {"num_predict": 2}},
        _names(OllamaGenerateRequest),
        {"options": ("num_predict", "temperature", "top_k", "stop", "seed")},
    ),
    Endpoint(
        "/api/chat",
        {"model": MODEL, "messages": MESSAGES, "options": {"num_predict": 2}},
        _names(OllamaChatRequest),
        {"options": ("num_predict", "temperature", "top_k", "stop", "seed")},
    ),
    Endpoint("/open_session", {"capacity_of_str_len": 100}, _names(OpenSessionReqInput)),
    Endpoint("/close_session", {"session_id": "x"}, _names(CloseSessionReqInput)),
    Endpoint(
        "/parse_function_call",
        {"text": "x", "tools": [], "tool_call_parser": "qwen25"},
        _names(ParseFunctionCallReq),
    ),
    Endpoint(
        "/separate_reasoning",
        {"text": "x", "reasoning_parser": "qwen3"},
        _names(SeparateReasoningReqInput),
    ),
)


def mutated(random: random.Random) -> Case:
    """Draw an endpoint, and a request to it with one to three fields not as they should be."""
    endpoint = random.choice((*ENDPOINTS, *[ENDPOINTS[0]] * 6, *ENDPOINTS[1:6]))
    body = copy.deepcopy(endpoint.request)
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        if endpoint.inner and random.random() < 0.5:
            name, fields = random.choice(list(endpoint.inner.items()))
            if not isinstance(body.get(name), dict):
                body[name] = {}
            body[name][random.choice(fields)] = draw(random)
        else:
            body[random.choice(endpoint.fields)] = draw(random)
    if random.random() < 0.2:
        body["stream"] = True
    return Case(endpoint.path, body)
