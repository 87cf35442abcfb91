"""Resolve every HTTP request's identity before any handler runs, and apply its limits.

One ASGI middleware, innermost, so that it sees bodies already decompressed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import orjson
from starlette.datastructures import Headers, QueryParams

from sglang.srt.managers.io_struct import EmbeddingReqInput, GenerateReqInput
from sglang.srt.tenancy.errors import error_response
from sglang.srt.tenancy.http.admission import Admission, ClientGone, wait_for_permit
from sglang.srt.tenancy.http.identity import (
    BODY_FIELDS,
    Resolver,
    bearer,
    from_the_server_itself,
)
from sglang.srt.tenancy.http.prompt_count import (
    PROMPT_FIELDS,
    check_user_count,
    count_prompts,
    prompts_by_user,
)
from sglang.srt.tenancy.http.rate_limiter import LimitExceeded, RateLimiter, estimated_tokens
from sglang.srt.tenancy.http.request_context import current_identity, set_identity
from sglang.srt.tenancy.user_id import IdentityError, account_name
from sglang.srt.utils.auth import (
    AuthLevel,
    _get_auth_level_from_app_and_scope,
    decide_request_auth,
)

if TYPE_CHECKING:
    from fastapi import FastAPI
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

# Probes and scrapers carry no identity, in upstream neither a key.
_OPEN_PATHS = ("/health", "/metrics", "/ping")

# Open in upstream to every user, though they tell the admin key, or change what all get.
_OPERATORS_PATHS = (
    "/server_info",
    "/get_server_info",
    "/set_trace_level",
    "/load_lora_adapter_from_tensors",
)

# What computes nothing is not limited. Paths that upstream adds are.
_FREE_PATHS = (
    "/tokenize",
    "/detokenize",
    "/open_session",
    "/close_session",
    "/abort_request",
    "/parse_function_call",
    "/separate_reasoning",
    "/cancel",
    "/count_tokens",
    "/api/show",
    "/tenant/selftest",
)


class TenantMiddleware:
    """ASGI middleware that resolves who asks. Inert until ``open`` finds the feature on."""

    resolver: Resolver | None = None
    limiter: RateLimiter | None = None
    admin_api_key: str | None = None

    def __init__(self, app: ASGIApp, routes: FastAPI):
        self.app = app
        self.routes = routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self.resolver is None or scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        connection = receive
        try:
            body, receive = await self._admit(scope, receive, self.resolver)
            entered = await self._enter(scope, body, connection)
        except IdentityError as error:
            await _refusal(error)(scope, receive, send)
            return
        except ClientGone:
            return
        if entered is None:
            await self.app(scope, receive, send)
        else:
            await entered.serve(self.app, scope, receive, send)

    async def _enter(
        self, scope: Scope, body: dict[str, Any], connection: Receive
    ) -> Admission | None:
        """Count the request, or wait until it may come in. None where nothing is limited."""
        identity = current_identity()
        limited = scope["type"] == "websocket" or scope.get("method") in ("POST", "PUT")
        if self.limiter is None or not limited or identity is None or identity.is_the_server_itself:
            return None
        if scope["path"].rstrip("/").endswith(_FREE_PATHS):
            return None
        prompts = prompts_by_user(identity, body)
        tokens = estimated_tokens(body, prompts.total())
        entering = asyncio.ensure_future(self.limiter.enter(prompts, tokens))
        try:
            if body:  # it has been read: the next message can only be that the client is gone
                await wait_for_permit(entering, connection)
            permit = await entering
        except (ClientGone, asyncio.CancelledError):
            if entering.done() and not entering.cancelled() and not entering.exception():
                self.limiter.leave(entering.result())
            raise
        return Admission(self.limiter, permit, background=body.get("background") is True)

    async def _admit(
        self, scope: Scope, receive: Receive, resolver: Resolver
    ) -> tuple[dict[str, Any], Receive]:
        """Return the body, as far as it was read, and a receive that gives it again."""
        if scope["path"].startswith(_OPEN_PATHS) or scope.get("method") == "OPTIONS":
            return {}, receive
        headers = scope["headers"]
        level = self._auth_level(scope)
        if level is not AuthLevel.NORMAL:
            # Where users hold keys, no user may flush, reload or abort for all.
            if level is AuthLevel.ADMIN_FORCE or resolver.config.has_keys:
                self._require_admin(scope)
            return {}, receive
        # Without a body (GET /v1/responses/ID) the query makes the claim.
        body = _take_claims(scope)
        if scope.get("method") in ("POST", "PUT"):
            body, receive = await _read(headers, receive)
        identity = resolver.resolve(headers, body)
        if isinstance(identity.user_ids, tuple):
            check_user_count(identity.user_ids, count_prompts(body))
        set_identity(identity)
        return body, receive

    def _auth_level(self, scope: Scope) -> AuthLevel:
        if scope["type"] != "http":
            return AuthLevel.NORMAL
        if scope["path"].endswith(_OPERATORS_PATHS):
            return AuthLevel.ADMIN_OPTIONAL
        return _get_auth_level_from_app_and_scope(self.routes, scope)

    def _require_admin(self, scope: Scope) -> None:
        if from_the_server_itself(scope["headers"]):
            return
        key = bearer(scope["headers"])
        decision = decide_request_auth(
            method=scope["method"],
            path=scope["path"],
            authorization_header=f"Bearer {key}" if key else None,
            api_key=None,
            admin_api_key=self.admin_api_key,
            auth_level=AuthLevel.ADMIN_FORCE,
        )
        if not decision.allowed:
            hint = "send it" if self.admin_api_key else "start the server with --admin-api-key"
            raise IdentityError(
                decision.error_status_code,
                "Authorization",
                f"Authorization: {scope['path']} needs the admin API key; {hint}",
            )


def _take_claims(scope: Scope) -> dict[str, Any]:
    """Take what it says of users out of the query: the access log prints the rest."""
    query = QueryParams(scope.get("query_string", b""))
    rest = [(name, value) for name, value in query.multi_items() if name not in BODY_FIELDS]
    if len(rest) < len(query.multi_items()):
        scope["query_string"] = urlencode(rest).encode()
    return dict(query)


async def _read(
    headers: Sequence[tuple[bytes, bytes]], receive: Receive
) -> tuple[dict[str, Any], Receive]:
    """Read the JSON body; return it, and a receive that gives the body once more.

    Anything but a JSON object claims nothing, which is the safe side; whether it is an
    error is the handler's to say.
    """
    if not Headers(raw=list(headers)).get("content-type", "json").lower().count("json"):
        return {}, receive
    chunks: list[bytes] = []
    message: Message = {"type": "http.request", "more_body": True}
    while message["type"] == "http.request" and message.get("more_body", False):
        message = await receive()
        chunks.append(message.get("body", b""))
    raw = b"".join(chunks)
    pending: list[Message] = [{"type": "http.request", "body": raw, "more_body": False}]
    if message["type"] != "http.request":
        pending.append(message)

    async def replay() -> Message:
        return pending.pop(0) if pending else await receive()

    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError:
        body = {}
    return body if isinstance(body, dict) else {}, replay


def _refusal(error: IdentityError) -> ASGIApp:
    headers = {"WWW-Authenticate": "Bearer"} if error.status_code == 401 else {}
    if isinstance(error, LimitExceeded):
        headers["Retry-After"] = str(error.retry_after)
    response = error_response(error.status_code, str(error), error.param, headers)

    async def refuse(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008, "reason": str(error)[:120]})
        else:
            await response(scope, receive, send)

    return refuse


def charge_used_tokens(
    finished: bool, obj: GenerateReqInput | EmbeddingReqInput, meta: dict[str, Any]
) -> None:
    """Spend what a request used, when it ends. To be called with each of the engine's outputs.

    One that its client gave up before its prompt was computed tells no tokens: then it is
    charged for what it asked. One that the server refused is charged nothing.
    """
    if TenantMiddleware.limiter is None or not finished or isinstance(obj, EmbeddingReqInput):
        return
    prompt = meta.get("prompt_tokens")
    if prompt is None:
        refused = "status_code" in (meta.get("finish_reason") or {})
        held = {name: getattr(obj, name, None) for name in PROMPT_FIELDS}
        prompt = 0 if refused else estimated_tokens(held, 1)
    user = account_name(getattr(obj, "user_id", None))
    TenantMiddleware.limiter.spend(user, prompt + meta.get("completion_tokens", 0))
