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
import weakref
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import orjson
from starlette.datastructures import Headers, QueryParams
from starlette.responses import JSONResponse

from sglang.srt.managers.io_struct import EmbeddingReqInput, GenerateReqInput
from sglang.srt.tenancy.bounded_store import BoundedStore
from sglang.srt.tenancy.config import TenantConfig
from sglang.srt.tenancy.identity import (
    BODY_FIELDS,
    Asker,
    Resolver,
    bearer,
    from_the_server_itself,
    headers_of_the_server_itself,
)
from sglang.srt.tenancy.limits import Gate, LimitExceeded, Pass, estimated_tokens
from sglang.srt.tenancy.user_id import (
    SHARED_ANONYMOUS,
    IdentityError,
    account_name,
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


class RequestOwner:
    """Whom one HTTP request's stored state belongs to, until the user is erased."""

    __slots__ = ("__weakref__", "erased", "name")

    def __init__(self, name: str):
        self.name = name
        self.erased = False


_owner: contextvars.ContextVar[RequestOwner | None] = contextvars.ContextVar("owner", default=None)
# Of the requests under way, their background tasks included: these hold the context.
_owners: weakref.WeakSet[RequestOwner] = weakref.WeakSet()

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

# Fields of a body that hold one prompt, or a list of them.
_PROMPTS = ("text", "prompt", "input_ids")

# Responses that one HTTP process stores; upstream stores all that there ever were.
MOST_STORED = 8192


class Door:
    """ASGI middleware that resolves who asks. Inert until ``open`` finds the feature on."""

    resolver: Resolver | None = None
    gate: Gate | None = None
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

    async def _enter(self, scope: Scope, body: dict[str, Any], connection: Receive) -> Visit | None:
        """Count the request, or wait until it may come in. None where nothing is limited."""
        asker = _asker.get()
        limited = scope["type"] == "websocket" or scope.get("method") in ("POST", "PUT")
        if self.gate is None or not limited or asker is None or asker.is_the_server_itself:
            return None
        if scope["path"].rstrip("/").endswith(_FREE_PATHS):
            return None
        prompts = _prompts_of(asker, body)
        tokens = estimated_tokens(body, prompts.total())
        entering = asyncio.ensure_future(self.gate.enter(prompts, tokens))
        try:
            if body:  # it has been read: the next message can only be that the client is gone
                await _or_gone(entering, connection)
            ticket = await entering
        except (ClientGone, asyncio.CancelledError):
            if entering.done() and not entering.cancelled() and not entering.exception():
                self.gate.leave(entering.result())
            raise
        return Visit(self.gate, ticket, background=body.get("background") is True)

    async def _admit(
        self, scope: Scope, receive: Receive, resolver: Resolver
    ) -> tuple[dict[str, Any], Receive]:
        """The body, as far as it was read, and a receive that gives it again."""
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
        asker = resolver.resolve(headers, body)
        if isinstance(asker.user_ids, tuple):
            _check_count(asker.user_ids, _prompts_in(body))
        _asker.set(asker)
        owner = RequestOwner(asker.owner)
        _owner.set(owner)
        _owners.add(owner)
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
    OwnedStore.most = MOST_STORED
    Door.gate = Gate(
        lambda user: resolver.config.limits_of(user), getattr(options, "tokenizer_worker_num", 1)
    )
    Door.admin_api_key = getattr(options, "admin_api_key", None)
    # Imported here: with the feature off, the server has no endpoint more than upstream.
    from sglang.srt.entrypoints.http_server import get_global_state
    from sglang.srt.tenancy import ticker
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
    ticker.start(plane, options)
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
    kind = {
        400: "invalid_request_error",
        401: "authentication_error",
        403: "permission_error",
        429: "rate_limit_error",
    }
    detail = {
        "message": str(error),
        "type": kind[error.status_code],
        "param": error.param,
        "code": error.status_code,
    }
    headers = {"WWW-Authenticate": "Bearer"} if error.status_code == 401 else {}
    if isinstance(error, LimitExceeded):
        headers["Retry-After"] = str(error.retry_after)
    response = JSONResponse({"error": detail}, status_code=error.status_code, headers=headers)

    async def refuse(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008, "reason": str(error)[:120]})
        else:
            await response(scope, receive, send)

    return refuse


class ClientGone(Exception):
    """The client closed the connection while its request waited at the door."""


async def _or_gone(entering: asyncio.Future[Pass], connection: Receive) -> None:
    """Wait for the gate, or until the client is gone. Raises ClientGone."""
    gone = asyncio.ensure_future(connection())
    try:
        either: set[asyncio.Future[Any]] = {entering, gone}
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if not entering.done():
            raise ClientGone
    finally:
        gone.cancel()
        if not entering.done():
            entering.cancel()
            await asyncio.wait({entering})


class Visit:
    """One request behind the door: it is over when its last byte is sent, or it broke off."""

    def __init__(self, gate: Gate, ticket: Pass, *, background: bool):
        self.gate = gate
        self.ticket = ticket
        self.background = background
        self.status = 0
        self.complete = False
        self.reply = b""  # kept only of background responses: it names the task

    async def serve(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        async def watched(message: Message) -> None:
            await send(message)
            if message["type"] == "http.response.start":
                self.status = message["status"]
            elif message["type"] == "http.response.body":
                self._sent(message)

        try:
            await app(scope, receive, watched)
        finally:
            if not self.complete:
                self.gate.leave(self.ticket)

    def _sent(self, message: Message) -> None:
        if self.background:
            self.reply += message.get("body", b"")
        if message.get("more_body", False):
            return
        self.complete = True
        task = self._still_running() if self.background and self.status < 400 else None
        if task is None:
            self.gate.leave(self.ticket)
        else:
            task.add_done_callback(lambda _: self.gate.leave(self.ticket))

    def _still_running(self) -> asyncio.Task[Any] | None:
        """The task that upstream answers a background response in."""
        try:
            name = f"create_{orjson.loads(self.reply)['id']}"
        except (orjson.JSONDecodeError, KeyError, TypeError):
            return None
        return next((task for task in asyncio.all_tasks() if task.get_name() == name), None)


def _prompts_of(asker: Asker, body: dict[str, Any]) -> Counter[str | None]:
    """How many prompts of each user a request brings, answers to one prompt counted singly."""
    sampling = body.get("sampling_params")
    answers = body.get("n") or (sampling.get("n") if isinstance(sampling, dict) else 1)
    if isinstance(answers, bool) or not isinstance(answers, int) or answers < 1:
        answers = 1  # the handler refuses it
    users = asker.user_ids
    if not isinstance(users, tuple):
        return Counter({users: _prompts_in(body) * answers})
    return Counter({user: count * answers for user, count in Counter(users).items()})


def settle(finished: bool, obj: GenerateReqInput | EmbeddingReqInput, meta: dict[str, Any]) -> None:
    """Spend what a request used, when it ends. To be called with each of the engine's outputs.

    One that its client gave up before its prompt was computed tells no tokens: then it is
    charged for what it asked. One that the server refused is charged nothing.
    """
    if Door.gate is None or not finished or isinstance(obj, EmbeddingReqInput):
        return
    prompt = meta.get("prompt_tokens")
    if prompt is None:
        refused = "status_code" in (meta.get("finish_reason") or {})
        held = {name: getattr(obj, name, None) for name in _PROMPTS}
        prompt = 0 if refused else estimated_tokens(held, 1)
    user = account_name(getattr(obj, "user_id", None))
    Door.gate.spend(user, prompt + meta.get("completion_tokens", 0))


def stamp(obj: GenerateReqInput | EmbeddingReqInput, options: TenantOptions) -> None:
    """Write the door's identity on a request: one user, or one per prompt.

    Requests from inside the process (engine API, health check) carry their own word or
    none. Raises IdentityError 400 where a list of users does not fit the prompts. What
    normalizing has not set yet is taken from the prompts.
    """
    if isinstance(obj, EmbeddingReqInput):
        return  # a model that takes these does not start with the tenant cache
    if not _is_on(options):
        obj.user_id = obj.cache_scope = None
        return
    said = Asker(getattr(obj, "user_id", None), getattr(obj, "cache_scope", None))
    asker = _asker.get() or said
    prompts, single, samples = _shape(obj)
    users = asker.user_ids
    if not isinstance(users, (tuple, list)):
        users = (users,) * prompts
    else:
        _check_count(users, prompts)
    stamps = [_stamp_of(user, asker.cache_scope, options) for user in users]
    if single:
        obj.user_id, obj.cache_scope = stamps[0]
    else:
        obj.user_id = [user for user, _ in stamps] * samples
        obj.cache_scope = [scope for _, scope in stamps] * samples
    _own_session(obj, users, options)


def _is_on(options: TenantOptions) -> bool:
    """Upstream's own tests give arguments that hold only what they are about."""
    return bool(getattr(options, "enable_tenant_cache", False))


def _shape(obj: GenerateReqInput) -> tuple[int, bool, int]:
    """How many prompts, whether it is one that is no batch, and answers to each."""
    held = {name: getattr(obj, name, None) for name in _PROMPTS}
    is_batch = any(_is_batch(value) for value in held.values())
    return (
        getattr(obj, "batch_size", _prompts_in(held)),
        getattr(obj, "is_single", not is_batch),
        getattr(obj, "parallel_sample_num", 1),
    )


def _own_session(
    obj: GenerateReqInput, users: Sequence[str | None], options: TenantOptions
) -> None:
    session = getattr(obj, "session_params", None)
    if isinstance(session, dict) and session.get("id"):
        if len(set(users)) > 1:
            raise IdentityError(400, "user_id", "user_id: a session belongs to one user")
        obj.session_params = {**session, "id": own(session["id"], options)}


def _check_count(users: Sequence[str | None], prompts: int) -> None:
    if len(users) != prompts:
        raise IdentityError(
            400, "user_id", f"user_id: {len(users)} users for {prompts} prompts; give one for each"
        )


def _prompts_in(body: dict[str, Any]) -> int:
    """How many prompts a body holds: known here, a stream has no 200 to take back."""
    for field in _PROMPTS:
        prompts = body.get(field)
        if isinstance(prompts, list) and _is_batch(prompts):
            return len(prompts)
    return 1


def _is_batch(prompts: Any) -> bool:
    """Whether it is a list of prompts, and not one prompt's text or token ids."""
    return isinstance(prompts, list) and bool(prompts) and not isinstance(prompts[0], int)


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
    if not _is_on(options) or asker is None:
        return name
    return f"{digest(asker.owner)}.{name}"


def disown(name: str | None, options: TenantOptions) -> str | None:
    """The name that the user gave, from what ``own`` made of it."""
    if name is None or not _is_on(options) or _asker.get() is None:
        return name
    return name.partition(".")[2]


def forget_requests(user: str) -> None:
    """Have the requests of a user that are under way in this process store nothing."""
    for owner in list(_owners):
        if owner.name == user:
            owner.erased = True


class OwnedStore(BoundedStore):
    """A dictionary of which each user sees only their own entries (stored responses).

    With the feature off all requests are one owner: a plain dictionary.
    """

    @staticmethod
    def _key(key: Any) -> tuple[str, Any]:
        asker = _asker.get()
        return (asker.owner if asker else SHARED_ANONYMOUS, key)

    def __setitem__(self, key: Any, value: Any) -> None:
        owner = _owner.get()
        if owner is None or not owner.erased:
            super().__setitem__(self._key(key), value)

    def __getitem__(self, key: Any) -> Any:
        return super().__getitem__(self._key(key))

    def __contains__(self, key: object) -> bool:
        return super().__contains__(self._key(key))

    def get(self, key: Any, default: Any = None) -> Any:
        return super().get(self._key(key), default)

    def pop(self, key: Any, *default: Any) -> Any:
        return super().pop(self._key(key), *default)

    def forget(self, user: str) -> list[Any]:
        """Drop a user's entries. Returns the keys that they had."""
        theirs = list(self._of.get(user, ()))
        for entry in theirs:
            BoundedStore.__delitem__(self, entry)
        return [key for _, key in theirs]
