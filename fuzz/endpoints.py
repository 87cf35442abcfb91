"""Know each endpoint that a user can ask: a request that works, and the classes it is read into."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from cases import Case
from values import PROMPT

from sglang.srt.entrypoints.anthropic.protocol import (
    AnthropicCountTokensRequest,
    AnthropicMessagesRequest,
)
from sglang.srt.entrypoints.ollama.protocol import (
    OllamaChatRequest,
    OllamaGenerateRequest,
    OllamaShowRequest,
)
from sglang.srt.entrypoints.openai.protocol import (
    ChatCompletionRequest,
    ClassifyRequest,
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
MESSAGES = [{"role": "user", "content": PROMPT}]
FEW = {"max_new_tokens": 2}
# What the served model, which generates, answers where another kind of model is asked for.
OTHER_MODEL = 400


@dataclass
class OllamaOptions:
    """What Ollama's clients set, and upstream reads."""

    num_predict: int
    seed: int
    temperature: float
    top_p: float
    top_k: int
    stop: list[str] | str
    presence_penalty: float
    frequency_penalty: float


@dataclass(frozen=True)
class Endpoint:
    """``path``: a template, as the app has it. ``request``: one that is answered with ``status``.

    ``kind``: the class that it is read into. ``inner``: classes of objects in it, by field.
    """

    path: str
    request: Any = None
    kind: type | None = None
    inner: dict[str, type] = dataclasses.field(default_factory=dict)
    methods: tuple[str, ...] = ("POST",)
    status: int = 200

    def case(self) -> Case:
        """Return the request that is answered, to a path whose parameters name nothing."""
        path = self.path.replace(":path", "").replace("{model}", MODEL)
        return Case(path.replace("{response_id}", "resp_x"), self.request, self.methods[0])


_SAMPLING = {"sampling_params": SamplingParams, "session_params": SessionParams}
_CHAT = {"model": MODEL, "messages": MESSAGES, "max_tokens": 2}
_BOTH = ("POST", "PUT")

ENDPOINTS = (
    Endpoint(
        "/generate",
        {"text": PROMPT, "sampling_params": FEW},
        GenerateReqInput,
        _SAMPLING,
        _BOTH,
    ),
    Endpoint(
        "/v1/completions",
        {"model": MODEL, "prompt": PROMPT, "max_tokens": 2},
        CompletionRequest,
    ),
    Endpoint("/v1/chat/completions", _CHAT, ChatCompletionRequest),
    Endpoint("/invocations", _CHAT, ChatCompletionRequest),
    Endpoint(
        "/v1/responses",
        {"model": MODEL, "input": PROMPT, "max_output_tokens": 2},
        ResponsesRequest,
    ),
    Endpoint("/v1/messages", _CHAT, AnthropicMessagesRequest),
    Endpoint(
        "/v1/messages/count_tokens",
        {"model": MODEL, "messages": MESSAGES},
        AnthropicCountTokensRequest,
    ),
    *(
        Endpoint(f"{prefix}/tokenize", {"model": MODEL, "prompt": PROMPT}, TokenizeRequest)
        for prefix in ("", "/v1")
    ),
    *(
        Endpoint(f"{prefix}/detokenize", {"model": MODEL, "tokens": [1, 2]}, DetokenizeRequest)
        for prefix in ("", "/v1")
    ),
    Endpoint(
        "/v1/score",
        {"model": MODEL, "query": PROMPT, "items": [PROMPT], "label_token_ids": [1]},
        ScoringRequest,
    ),
    Endpoint(
        "/v1/embeddings", {"model": MODEL, "input": PROMPT}, EmbeddingRequest, status=OTHER_MODEL
    ),
    Endpoint(
        "/v1/classify", {"model": MODEL, "input": PROMPT}, ClassifyRequest, status=OTHER_MODEL
    ),
    Endpoint(
        "/v1/rerank",
        {"query": PROMPT, "documents": [PROMPT]},
        V1RerankReqInput,
        methods=_BOTH,
        status=OTHER_MODEL,
    ),
    Endpoint("/encode", {"text": PROMPT}, EmbeddingReqInput, _SAMPLING, _BOTH, OTHER_MODEL),
    Endpoint("/classify", {"text": PROMPT}, EmbeddingReqInput, _SAMPLING, _BOTH, OTHER_MODEL),
    Endpoint(
        "/vertex_generate",
        {"instances": [{"text": PROMPT}], "parameters": {"sampling_params": FEW}},
        VertexGenerateReqInput,
        {"parameters": GenerateReqInput},
    ),
    Endpoint(
        "/api/generate",
        {"model": MODEL, "prompt": PROMPT, "options": {"num_predict": 2}},
        OllamaGenerateRequest,
        {"options": OllamaOptions},
    ),
    Endpoint(
        "/api/chat",
        {"model": MODEL, "messages": MESSAGES, "options": {"num_predict": 2}},
        OllamaChatRequest,
        {"options": OllamaOptions},
    ),
    Endpoint("/api/show", {"model": MODEL}, OllamaShowRequest),
    Endpoint(
        "/open_session",
        {"capacity_of_str_len": 100},
        OpenSessionReqInput,
        methods=("POST", "GET"),
    ),
    Endpoint("/close_session", {"session_id": "x"}, CloseSessionReqInput, methods=("POST", "GET")),
    Endpoint(
        "/parse_function_call",
        {"text": PROMPT, "tools": [], "tool_call_parser": "qwen25"},
        ParseFunctionCallReq,
    ),
    Endpoint(
        "/separate_reasoning",
        {"text": PROMPT, "reasoning_parser": "qwen3"},
        SeparateReasoningReqInput,
    ),
    Endpoint("/v1/responses/{response_id}", methods=("GET",), status=404),
    Endpoint("/v1/responses/{response_id}/cancel", status=404),
    Endpoint("/v1/models/{model:path}", methods=("GET",)),
    *(
        Endpoint(path, methods=("GET",))
        for path in (
            *("/v1/models", "/api/tags", "/get_model_info", "/model_info", "/", "/ping"),
            *("/openapi.json", "/docs", "/docs/oauth2-redirect", "/redoc"),
            *("/health", "/health_generate"),
        )
    ),
    # Upstream's own answer: it is told elsewhere.
    Endpoint("/weight_version", methods=("GET",), status=404),
    Endpoint("/get_weight_version", methods=("GET",), status=404),
)

# Multipart; see wire.py.
UPLOAD = "/v1/audio/transcriptions"
# What a user may ask and the fuzzer does not, and why.
EXCEPTIONS = {
    "/v1/realtime": "a websocket: no environment of constraints/ has a library that serves them",
}
