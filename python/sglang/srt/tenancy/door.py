"""The door: every HTTP request is given its identity here, before any handler runs.

One ASGI middleware, innermost, so that it sees bodies already decompressed. It leaves
the identity in a context variable, which streaming and background tasks inherit; the
tokenizer manager stamps it on the request objects. No handler has to carry it, so none
can drop it.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import signal
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import orjson
from starlette.datastructures import Headers, QueryParams
from starlette.responses import JSONResponse

from sglang.srt.managers.io_struct import EmbeddingReqInput, GenerateReqInput
from sglang.srt.tenancy.config import TenantConfig
from sglang.srt.tenancy.identity import (
    BODY_FIELDS,
    Asker,
    Resolver,
    bearer,
    from_the_server_itself,
    headers_of_the_server_itself,
)
from sglang.srt.tenancy.user_id import (
    SHARED_ANONYMOUS,
    IdentityError,
    digest,
    fresh_anonymous,
)
from sglang.srt.utils.auth import (
    AuthLevel,
    _get_auth_level_from_app_and_scope,
    decide_request_auth,
)

if TYPE_CHECKING:
    from fastapi import FastAPI
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from sglang.srt.tenancy.options import TenantOptions

# In tokenizer workers upstream sets up this logger and no other: infos of ours were lost.
logger = logging.getLogger("sglang.srt.entrypoints.http_server")

_asker: contextvars.ContextVar[Asker | None] = contextvars.ContextVar("asker", default=None)

# Probes and scrapers carry no identity, in upstream neither a key.
_OPEN_PATHS = ("/health", "/metrics", "/ping")

# Open in upstream to every user, though they tell the admin key, or change what all get.
_OPERATORS_PATHS = (
    "/server_info",
    "/get_server_info",
    "/set_trace_level",
    "/load_lora_adapter_from_tensors",
)


class Door:
    """ASGI middleware that resolves who asks. Inert until ``open`` finds the feature on."""

    resolver: Resolver | None = None
    admin_api_key: str | None = None

    def __init__(self, app: ASGIApp, routes: FastAPI):
        self.app = app
        self.routes = routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self.resolver is None or scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        try:
            receive = await self._admit(scope, receive, self.resolver)
        except IdentityError as error:
            await _refusal(error)(scope, receive, send)
            return
        await self.app(scope, receive, send)

    async def _admit(self, scope: Scope, receive: Receive, resolver: Resolver) -> Receive:
        if scope["path"].startswith(_OPEN_PATHS) or scope.get("method") == "OPTIONS":
            return receive
        headers = scope["headers"]
        level = self._auth_level(scope)
        if level is not AuthLevel.NORMAL:
            # Where users hold keys, no user may flush, reload or abort for all.
            if level is AuthLevel.ADMIN_FORCE or resolver.config.has_keys:
                self._require_admin(scope)
            return receive
        # Without a body (GET /v1/responses/ID) the query makes the claim.
        body = _take_claims(scope)
        if scope.get("method") in ("POST", "PUT"):
            body, receive = await _read(headers, receive)
        asker = resolver.resolve(headers, body)
        if isinstance(asker.user_ids, tuple):
            _check_count(asker.user_ids, _prompts_in(body))
        _asker.set(asker)
        return receive

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


def install(app: FastAPI) -> None:
    """Put the door around the handlers. To be called before any other middleware is added."""
    app.add_middleware(Door, routes=app)


def own_headers(options: TenantOptions) -> dict[str, str]:
    """The headers by which the server's own warm-up passes the door."""
    return headers_of_the_server_itself() if options.enable_tenant_cache else {}


async def open_door(app: FastAPI, options: TenantOptions) -> None:
    """Start resolving identities, then prove that isolation holds. In each HTTP process.

    Raises SelfTestError where it does not: the server must not start.
    """
    if not options.enable_tenant_cache:
        return
    config = TenantConfig.load(options.tenant_config) if options.tenant_config else TenantConfig()
    resolver = Resolver(config, options.tenant_header, options.tenant_anonymous)
    Door.resolver = resolver
    Door.admin_api_key = getattr(options, "admin_api_key", None)
    # Imported here: with the feature off, the server has no endpoint more than upstream.
    from sglang.srt.entrypoints.http_server import get_global_state
    from sglang.srt.tenancy.access_log import hide_users
    from sglang.srt.tenancy.admin import add_routes
    from sglang.srt.tenancy.detect import service as detector
    from sglang.srt.tenancy.plane import plane_of
    from sglang.srt.tenancy.reload import Reloader
    from sglang.srt.tenancy.selftest import prove_at_startup, server_stops_on_failure

    hide_users()
    add_routes(app)
    plane = plane_of(app)
    if options.tenant_config:
        path = options.tenant_config
        reloader = Reloader(resolver, path, plane.configure)
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, reloader.hangup)
    if not config.has_keys and not options.tenant_header:
        logger.warning(
            "Tenant identities come only from request bodies: whoever can reach this server can "
            "name any user. Bind them with --tenant-config or --tenant-header."
        )
    with server_stops_on_failure(app, "Public prefixes not published"):
        await plane.configure(config)
    await prove_at_startup(app, options)
    await detector.start(plane, get_global_state().tokenizer_manager, options)


def _take_claims(scope: Scope) -> dict[str, Any]:
    """The query. What it says of users is taken out: the access log prints the rest."""
    query = QueryParams(scope.get("query_string", b""))
    rest = [(name, value) for name, value in query.multi_items() if name not in BODY_FIELDS]
    if len(rest) < len(query.multi_items()):
        scope["query_string"] = urlencode(rest).encode()
    return dict(query)


async def _read(
    headers: Sequence[tuple[bytes, bytes]], receive: Receive
) -> tuple[dict[str, Any], Receive]:
    """The JSON body, and a receive that gives the body once more.

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
    kind = {400: "invalid_request_error", 401: "authentication_error", 403: "permission_error"}
    detail = {
        "message": str(error),
        "type": kind[error.status_code],
        "param": error.param,
        "code": error.status_code,
    }
    headers = {"WWW-Authenticate": "Bearer"} if error.status_code == 401 else None
    response = JSONResponse({"error": detail}, status_code=error.status_code, headers=headers)

    async def refuse(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008, "reason": str(error)[:120]})
        else:
            await response(scope, receive, send)

    return refuse


def stamp(obj: GenerateReqInput | EmbeddingReqInput, options: TenantOptions) -> None:
    """Write the door's identity on a normalized request: one user, or one per prompt.

    Requests from inside the process (engine API, health check) carry their own word or
    none. Raises IdentityError 400 where a list of users does not fit the prompts.
    """
    if isinstance(obj, EmbeddingReqInput):
        return  # a model that takes these does not start with the tenant cache
    if not options.enable_tenant_cache:
        obj.user_id = obj.cache_scope = None
        return
    asker = _asker.get() or Asker(obj.user_id, obj.cache_scope)
    users = asker.user_ids
    if not isinstance(users, (tuple, list)):
        users = (users,) * obj.batch_size
    else:
        _check_count(users, obj.batch_size)
    stamps = [_stamp_of(user, asker.cache_scope, options) for user in users]
    if obj.is_single:
        obj.user_id, obj.cache_scope = stamps[0]
    else:
        obj.user_id = [user for user, _ in stamps] * obj.parallel_sample_num
        obj.cache_scope = [scope for _, scope in stamps] * obj.parallel_sample_num
    if obj.session_params and obj.session_params.get("id"):
        if len(set(users)) > 1:
            raise IdentityError(400, "user_id", "user_id: a session belongs to one user")
        obj.session_params = {**obj.session_params, "id": own(obj.session_params["id"], options)}


def _check_count(users: Sequence[str | None], prompts: int) -> None:
    if len(users) != prompts:
        raise IdentityError(
            400, "user_id", f"user_id: {len(users)} users for {prompts} prompts; give one for each"
        )


def _prompts_in(body: dict[str, Any]) -> int:
    """How many prompts a body holds: known here, a stream has no 200 to take back."""
    for field in ("text", "prompt", "input_ids"):
        prompts = body.get(field)
        if isinstance(prompts, list) and prompts and not isinstance(prompts[0], int):
            return len(prompts)
    return 1


def _stamp_of(
    user: str | None, scope: str | None, options: TenantOptions
) -> tuple[str, str | None]:
    """The user and scope that the scheduler sees. Isolated anonymous work is never kept."""
    if user is not None:
        return user, scope
    if options.tenant_anonymous == "share":
        return SHARED_ANONYMOUS, scope
    return fresh_anonymous(), "none"


def own(name: str, options: TenantOptions) -> str:
    """A session's name inside the server: two users' sessions of one name are two sessions."""
    asker = _asker.get()
    if not options.enable_tenant_cache or asker is None:
        return name
    return f"{digest(asker.owner)}.{name}"


def disown(name: str | None, options: TenantOptions) -> str | None:
    """The name that the user gave, from what ``own`` made of it."""
    if name is None or not options.enable_tenant_cache or _asker.get() is None:
        return name
    return name.partition(".")[2]


class OwnedStore(dict[Any, Any]):
    """A dictionary of which each user sees only their own entries (stored responses).

    With the feature off all requests are one owner: a plain dictionary.
    """

    @staticmethod
    def _key(key: Any) -> tuple[str, Any]:
        asker = _asker.get()
        return (asker.owner if asker else SHARED_ANONYMOUS, key)

    def __setitem__(self, key: Any, value: Any) -> None:
        super().__setitem__(self._key(key), value)

    def __getitem__(self, key: Any) -> Any:
        return super().__getitem__(self._key(key))

    def __contains__(self, key: object) -> bool:
        return super().__contains__(self._key(key))

    def get(self, key: Any, default: Any = None) -> Any:
        return super().get(self._key(key), default)

    def pop(self, key: Any, *default: Any) -> Any:
        return super().pop(self._key(key), *default)
