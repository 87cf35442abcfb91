"""Put the response cache between an HTTP process's identities and its handlers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal

import orjson

from sglang.srt.tenancy.control.messages import ClearResponses, ResponsesCleared
from sglang.srt.tenancy.errors import RequestError
from sglang.srt.tenancy.http.identity import RequestIdentity
from sglang.srt.tenancy.http.refusal import refuse
from sglang.srt.tenancy.http.request_context import current_identity
from sglang.srt.tenancy.response_cache.cache import ResponseCache
from sglang.srt.tenancy.response_cache.cacheable_request import Rules
from sglang.srt.tenancy.response_cache.endpoints.registry import endpoints
from sglang.srt.tenancy.response_cache.memory import MemoryStore
from sglang.srt.tenancy.response_cache.store import ResponseStore
from sglang.srt.tenancy.response_cache.temperature import Defaults, is_greedy
from sglang.srt.tenancy.response_cache.words import words
from sglang.srt.tenancy.user_id import SHARED_ANONYMOUS, digest

if TYPE_CHECKING:
    from fastapi import FastAPI
    from starlette.types import Receive, Scope, Send

    from sglang.srt.tenancy.control.client import ControlClient
    from sglang.srt.tenancy.flags import TenantOptions
    from sglang.srt.tenancy.http.identity import Resolver
    from sglang.srt.tenancy.response_cache.computation import App

_RESPONSES = "/v1/responses"
# Of the server's arguments: those by which equal requests may be answered otherwise.
_DECIDING = (
    *("model_path", "revision", "weight_version", "tokenizer_path", "served_model_name"),
    *("chat_template", "reasoning_parser", "tool_call_parser", "dtype", "quantization"),
)
_LONGEST_TOKENIZED = 65_536  # characters; longer texts are cut at words: on the event loop

# Where operators change what the model answers.
WEIGHT_ROUTES = (
    *("/update_weights_from_disk", "/update_weights_from_tensor", "/update_weights_from_ipc"),
    *("/update_weights_from_distributed", "/resume_memory_occupation"),
    *("/load_lora_adapter", "/load_lora_adapter_from_tensors", "/unload_lora_adapter"),
)


class ResponseCaching:
    """The response cache of one HTTP process.

    ``share``: no more of anonymous requests than of those of a user, or nothing of them.
    ``is_stored``: whether the server still knows a response by its id.
    """

    def __init__(
        self,
        store: ResponseStore,
        client: ControlClient,
        options: TenantOptions,
        is_stored: Callable[[str], bool],
    ):
        manager = client.manager
        self._client = client
        self.kind = _kind(options)
        self.cache = ResponseCache(store, _splitter(manager), self._usable)
        self._rules = Rules(_greedy(manager), lambda: _engine(manager))
        self._endpoints = endpoints(
            sglang=True, incremental=manager.server_args.incremental_streaming_output
        )
        self._share_anonymous = options.tenant_anonymous == "share"
        self._is_stored = is_stored

    async def serve(
        self,
        path: str | None,
        body: Mapping[str, Any],
        app: App,
        scope: Scope,
        receive: Receive,
        send: Send,
    ) -> None:
        """Serve a request to a route, out of the cache where it may be."""
        if path in WEIGHT_ROUTES:
            await self._serve_weights(app, scope, receive, send)
            return
        endpoint = self._endpoints.get(path or "") if scope.get("method") == "POST" else None
        if endpoint is None:
            await app(scope, receive, send)
            return
        identity = current_identity()
        if identity is None or identity.is_the_server_itself:
            await app(scope, receive, send)
            return
        owner, asked = self._owner(identity), None
        if owner is not None:
            try:
                asked = self._rules.asked(endpoint, owner, scope["headers"], body)
            except RequestError as error:
                await refuse(error, scope, receive, send)
                return
        if asked is None:
            await self.cache.bypass(app, scope, receive, send)
        else:
            await self.cache.answer(asked, app, scope, receive, send)

    async def _serve_weights(self, app: App, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve what changes the model; what it answered before is dropped everywhere."""
        try:
            await app(scope, receive, send)
        finally:
            await self.cache.clear()
            self._client.tell(ClearResponses())

    async def report(self, owner: str | None) -> dict[str, Any]:
        """Return counts of this process, and what the store holds: of one owner, or of all."""
        cache = self.cache
        counts = {**cache.counts, "computing": cache.computing}
        return {
            "process": counts | {"seconds_saved": cache.seconds_saved},
            "store": {"kind": self.kind, **asdict(await cache.store.stats(owner))},
        }

    def _owner(self, identity: RequestIdentity) -> str | None:
        """Return whose answers may be kept; None: nobody's, of this request."""
        if identity.cache_scope == "none":
            return None
        user = identity.user_ids
        if user is None and self._share_anonymous and not identity.is_operator:
            return SHARED_ANONYMOUS
        return user if isinstance(user, str) else None

    def _usable(self, path: str, body: Mapping[str, Any], answer: bytes) -> bool:
        """Keep no id alive that a client could not go on from."""
        if path != _RESPONSES or body.get("store") is False:
            return True
        return self._is_stored(orjson.loads(answer).get("id", ""))


def _kind(options: TenantOptions) -> Literal["file", "memory", "redis"]:
    if options.tenant_response_cache_file:
        return "file"
    return "redis" if options.tenant_response_cache_redis else "memory"


def store_of(options: TenantOptions, share_of: Callable[[str], float | None]) -> ResponseStore:
    """Make the store that the flags ask for. ``share_of``: a user's own share, where one is set.

    Raises ValueError for a file that is none, or of another version.
    """
    size, ttl = options.tenant_response_cache, options.tenant_response_cache_ttl

    def share(owner: str) -> float:
        own = share_of(owner)
        return options.tenant_response_cache_share if own is None else own

    if options.tenant_response_cache_file:
        from sglang.srt.tenancy.response_cache.sqlite_file import SqliteStore

        return SqliteStore(options.tenant_response_cache_file, size, ttl, share, _tag)
    if options.tenant_response_cache_redis:
        from sglang.srt.tenancy.response_cache.redis_store import RedisStore

        return RedisStore(options.tenant_response_cache_redis, ttl, _tag)
    return MemoryStore(size, ttl, share)


def _tag(owner: str) -> str:
    """Name an owner in a store. Long enough that no two are ever alike."""
    return digest(owner, 16)


def _engine(manager: Any) -> list[Any]:
    """Name what decides answers beside requests, as it is now."""
    return [manager.config_value(name) for name in _DECIDING]


def _greedy(manager: Any) -> Callable[[str, Mapping[str, Any]], bool]:
    model = manager.model_config.get_default_sampling_params()
    defaults = Defaults(
        native=manager.preferred_sampling_params or {}, completions={}, chat=model, responses=model
    )
    return lambda path, body: is_greedy(path, body, defaults)


def _splitter(manager: Any) -> Callable[[str], Sequence[str]]:
    """Return what cuts a text as this server streams it: at tokens, some of them together."""
    tokenizer, together = manager.tokenizer, manager.server_args.stream_interval
    if not getattr(tokenizer, "is_fast", False):
        return words

    def split(text: str) -> Sequence[str]:
        if len(text) > _LONGEST_TOKENIZED:
            return words(text)
        tokens = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        # Tokens of one character end at the same place; what precedes a token belongs to it.
        ends = sorted({end for _, end in tokens["offset_mapping"]})
        cuts = [0, *ends[together - 1 :: together], len(text)]
        return [text[a:b] for a, b in pairwise(cuts) if b > a]

    return split


_caching: ResponseCaching | None = None
_clearing: set[asyncio.Task[int]] = set()  # the event loop would not keep them


def start(
    app: FastAPI, options: TenantOptions, resolver: Resolver, client: ControlClient
) -> ResponseCaching | None:
    """Make this process's cache, if there is to be one. Raises ValueError as ``store_of``."""
    global _caching
    _caching = None
    if not options.tenant_response_cache:
        return None
    store = store_of(options, lambda user: resolver.config.settings_of(user).cache_share)
    serving: Any = getattr(app.state, "openai_serving_responses", None)

    def is_stored(response: str) -> bool:
        return serving is not None and response in serving.response_store

    _caching = ResponseCaching(store, client, options, is_stored)
    client.on(ResponsesCleared, lambda notice: clear_soon(notice.user))
    return _caching


def clear_soon(user: str | None) -> None:
    """Drop what is kept of a user, or of all, in this process and in what it shares."""
    if _caching is not None:
        task = asyncio.get_running_loop().create_task(_caching.cache.clear(user))
        _clearing.add(task)
        task.add_done_callback(_clearing.discard)


def of_server() -> ResponseCaching | None:
    """Return this process's response cache; None where there is none."""
    return _caching
