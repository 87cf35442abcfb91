"""Every route of the server: who may call it, and what it can touch.

The server does not start with a route that is not here: route_access.py. docs/access.md is made
from this table.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from enum import IntEnum


class Access(IntEnum):
    """Who may call a route; a larger one is stricter."""

    OPEN = 0  # anyone
    USER = 1  # where users hold keys: who has one, or the admin key
    OPERATOR = 2  # where users hold keys, or the server has an admin key: the admin key
    ADMIN = 3  # always the admin key


@dataclass(frozen=True, slots=True)
class Row:
    """Some methods of one path.

    ``methods``: separated by spaces; WEBSOCKET is one.
    ``touches``: what a call can read or change.
    ``only_with``: what the server must be started with to have the route.
    ``renamed_by``: the environment variable that holds another path for it.
    ``mounted``: another application answers below the path; it gets requests for the path alone.
    """

    methods: str
    path: str
    access: Access
    touches: str
    only_with: str = ""
    renamed_by: str = ""
    mounted: bool = False

    @property
    def path_here(self) -> str:
        """The path that this process serves it under."""
        return os.environ.get(self.renamed_by, self.path) if self.renamed_by else self.path


WEBSOCKET = "WEBSOCKET"

_OPEN, _USER, _OPERATOR, _ADMIN = Access

_OWN_REQUEST = "cache, service and limits of the user who asks"
_WEIGHTS = "the weights that all users are served with"
_PROFILER = "the profiler: slows all users, writes to the server's disk"
_EXPERTS = "statistics of all users' tokens, by expert"
_TRANSFER = "addresses by which other machines read the weights"
_MODEL = "name and settings of the model"
_TEXT = "the text in the request"
_STORAGE = "the storage tier of all users"
_DOCS = "names of the endpoints"

ROWS = (
    # Probes and scrapers
    Row("GET", "/health", _OPEN, "computes one token, every two seconds at most"),
    Row("GET", "/health_generate", _OPEN, "computes one token, every two seconds at most"),
    Row("GET", "/ping", _OPEN, "nothing"),
    Row(
        "GET HEAD",
        "/metrics",
        _OPEN,
        "counts and times of all users together",
        only_with="--enable-metrics",
        mounted=True,
    ),
    # Requests to the model
    Row("POST PUT", "/generate", _USER, _OWN_REQUEST),
    Row("POST", "/v1/completions", _USER, _OWN_REQUEST),
    Row("POST", "/v1/chat/completions", _USER, _OWN_REQUEST),
    Row("POST", "/v1/responses", _USER, f"{_OWN_REQUEST}; their stored responses"),
    Row("GET", "/v1/responses/{response_id}", _USER, "one stored response of the user who asks"),
    Row(
        "POST",
        "/v1/responses/{response_id}/cancel",
        _USER,
        "one background response of the user who asks",
    ),
    Row("POST", "/v1/messages", _USER, _OWN_REQUEST),
    Row("POST", "/v1/messages/count_tokens", _USER, _TEXT),
    Row("POST", "/invocations", _USER, _OWN_REQUEST),
    Row("POST", "/vertex_generate", _USER, _OWN_REQUEST, renamed_by="AIP_PREDICT_ROUTE"),
    Row("POST", "/api/chat", _USER, _OWN_REQUEST, renamed_by="SGLANG_OLLAMA_CHAT_ROUTE"),
    Row("POST", "/api/generate", _USER, _OWN_REQUEST, renamed_by="SGLANG_OLLAMA_GENERATE_ROUTE"),
    Row("POST", "/v1/score", _USER, _OWN_REQUEST),
    Row("POST PUT", "/v1/rerank", _USER, _OWN_REQUEST),
    Row("POST PUT", "/encode", _USER, _OWN_REQUEST),
    Row("POST PUT", "/classify", _USER, _OWN_REQUEST),
    Row("POST", "/v1/embeddings", _USER, _OWN_REQUEST),
    Row("POST", "/v1/classify", _USER, _OWN_REQUEST),
    Row("POST", "/v1/audio/transcriptions", _USER, _OWN_REQUEST),
    Row("WEBSOCKET", "/v1/realtime", _USER, _OWN_REQUEST),
    Row("GET POST", "/open_session", _USER, "sessions of the user who asks"),
    Row("GET POST", "/close_session", _USER, "sessions of the user who asks"),
    # What needs no engine
    Row("POST", "/tokenize", _USER, _TEXT),
    Row("POST", "/v1/tokenize", _USER, _TEXT),
    Row("POST", "/detokenize", _USER, _TEXT),
    Row("POST", "/v1/detokenize", _USER, _TEXT),
    Row("POST", "/parse_function_call", _USER, _TEXT),
    Row("POST", "/separate_reasoning", _USER, _TEXT),
    Row("GET", "/v1/models", _USER, _MODEL),
    Row("GET", "/v1/models/{model:path}", _USER, _MODEL),
    Row("GET", "/model_info", _USER, _MODEL),
    Row("GET", "/get_model_info", _USER, _MODEL),
    Row("GET", "/weight_version", _USER, _MODEL),
    Row("GET", "/get_weight_version", _USER, _MODEL),
    Row("GET", "/api/tags", _USER, _MODEL, renamed_by="SGLANG_OLLAMA_TAGS_ROUTE"),
    Row("POST", "/api/show", _USER, _MODEL, renamed_by="SGLANG_OLLAMA_SHOW_ROUTE"),
    Row("GET HEAD", "/", _USER, "nothing", renamed_by="SGLANG_OLLAMA_ROOT_ROUTE"),
    Row("GET HEAD", "/openapi.json", _USER, _DOCS),
    Row("GET HEAD", "/docs", _USER, _DOCS),
    Row("GET HEAD", "/docs/oauth2-redirect", _USER, _DOCS),
    Row("GET HEAD", "/redoc", _USER, _DOCS),
    # What all users do
    Row("GET", "/server_info", _OPERATOR, "all arguments, the admin key among them"),
    Row("GET", "/get_server_info", _OPERATOR, "all arguments, the admin key among them"),
    Row("GET", "/v1/loads", _OPERATOR, "what all users have running and waiting"),
    Row("GET", "/get_load", _OPERATOR, "what all users have running and waiting"),
    Row("POST", "/abort_request", _OPERATOR, "requests of any user"),
    Row("POST", "/pause_generation", _OPERATOR, "requests of all users"),
    Row("POST", "/continue_generation", _OPERATOR, "requests of all users"),
    Row("GET POST", "/slow_down", _OPERATOR, "requests of all users"),
    Row("GET POST", "/flush_cache", _OPERATOR, "the cache of all users"),
    Row("GET POST", "/clear_hicache_storage_backend", _OPERATOR, _STORAGE),
    Row("POST", "/hicache/storage-backend/clear", _OPERATOR, _STORAGE),
    Row("GET PUT DELETE", "/hicache/storage-backend", _OPERATOR, _STORAGE),
    Row("POST", "/add_external_corpus", _OPERATOR, "texts that all users' drafts are taken from"),
    Row(
        "POST", "/remove_external_corpus", _OPERATOR, "texts that all users' drafts are taken from"
    ),
    Row("GET", "/list_external_corpora", _OPERATOR, "names of those texts"),
    # The model that all are served by
    Row("POST", "/update_weights_from_disk", _OPERATOR, _WEIGHTS),
    Row("POST", "/update_weights_from_tensor", _OPERATOR, _WEIGHTS),
    Row("POST", "/update_weights_from_distributed", _OPERATOR, _WEIGHTS),
    Row("POST", "/update_weights_from_ipc", _OPERATOR, _WEIGHTS),
    Row("POST", "/update_weight_version", _OPERATOR, _MODEL),
    Row("POST", "/init_weights_update_group", _OPERATOR, _WEIGHTS),
    Row("POST", "/destroy_weights_update_group", _OPERATOR, _WEIGHTS),
    Row("POST", "/init_weights_send_group_for_remote_instance", _OPERATOR, _WEIGHTS),
    Row("POST", "/send_weights_to_remote_instance", _OPERATOR, _WEIGHTS),
    Row("GET", "/get_remote_instance_transfer_engine_info", _OPERATOR, _TRANSFER),
    Row("GET", "/remote_instance_transfer_engine_info", _OPERATOR, _TRANSFER),
    Row("GET POST", "/get_weights_by_name", _OPERATOR, _WEIGHTS),
    Row("GET POST", "/weights_checker", _OPERATOR, _WEIGHTS),
    Row("GET POST", "/release_memory_occupation", _OPERATOR, "memory of weights and cache"),
    Row("GET POST", "/resume_memory_occupation", _OPERATOR, "memory of weights and cache"),
    Row("POST", "/load_lora_adapter", _OPERATOR, "adapters that all users may name"),
    Row("POST", "/load_lora_adapter_from_tensors", _OPERATOR, "adapters that all users may name"),
    Row("POST", "/unload_lora_adapter", _OPERATOR, "adapters that all users may name"),
    Row("POST", "/scale_elastic_ep", _OPERATOR, "how many processes serve"),
    Row("GET", "/is_scaling_elastic_ep", _OPERATOR, "how many processes serve"),
    # The server's own state
    Row("POST PUT", "/set_internal_state", _OPERATOR, "arguments of the running server"),
    Row("GET POST", "/configure_logging", _OPERATOR, "what is logged, prompts among it"),
    Row("GET POST", "/set_trace_level", _OPERATOR, "what is traced"),
    Row("GET POST", "/freeze_gc", _OPERATOR, "the processes' garbage collection"),
    Row("GET POST", "/start_profile", _OPERATOR, _PROFILER),
    Row("GET POST", "/stop_profile", _OPERATOR, _PROFILER),
    Row("GET POST", "/start_expert_distribution_record", _OPERATOR, _EXPERTS),
    Row("GET POST", "/stop_expert_distribution_record", _OPERATOR, _EXPERTS),
    Row("GET POST", "/dump_expert_distribution_record", _OPERATOR, _EXPERTS),
    Row(
        "POST",
        "/dumper/{method}",
        _OPERATOR,
        "tensors of all users' requests, written to the server's disk",
        only_with="DUMPER_SERVER_PORT=reuse",
    ),
    # Ours
    Row("GET", "/tenant/", _OPEN, "nothing: the live page, without data"),
    Row("GET", "/tenant/live", _ADMIN, "the same as stats, tree and detector, as a stream"),
    Row("GET", "/tenant/stats", _ADMIN, "sizes of all users' caches, by hashed name"),
    Row("GET", "/tenant/tree", _ADMIN, "shape of the tree, owners by hashed name"),
    Row("GET", "/tenant/detector", _ADMIN, "counts of what the detector found"),
    Row("GET", "/tenant/grammars", _ADMIN, "counts of what became of users' grammars"),
    Row("GET DELETE", "/tenant/response_cache", _ADMIN, "answers kept for users"),
    Row("GET", "/tenant/metrics", _ADMIN, "what single users took and hold, by hashed name"),
    Row("GET POST DELETE", "/tenant/public_prefixes", _ADMIN, "what all users share"),
    Row("GET POST", "/tenant/public_hashes", _ADMIN, "what became public, as keyed hashes"),
    Row("GET", "/tenant/users", _ADMIN, "weights, limits and shares of all users"),
    Row(
        "GET PUT DELETE",
        "/tenant/users/{user_id:path}",
        _ADMIN,
        "weight, limits and share of one user",
    ),
    Row("DELETE", "/tenant/users/{user_id:path}/cache", _ADMIN, "all that is held of one user"),
    Row("POST", "/tenant/selftest", _ADMIN, "the cache of two users made up for it"),
)
