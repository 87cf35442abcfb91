"""Resolve every HTTP request's identity before any handler runs.

One ASGI middleware, innermost, so that it sees bodies already decompressed.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from starlette.datastructures import QueryParams

from sglang.srt.tenancy.errors import RequestError
from sglang.srt.tenancy.http import health
from sglang.srt.tenancy.http.connections import OpenRequests
from sglang.srt.tenancy.http.health import HealthChecks
from sglang.srt.tenancy.http.held_response import HeldResponse
from sglang.srt.tenancy.http.identity import (
    BODY_FIELDS,
    Resolver,
    from_the_server_itself,
)
from sglang.srt.tenancy.http.rate_limiter import RateLimiter
from sglang.srt.tenancy.http.refusal import refuse
from sglang.srt.tenancy.http.request_body import BodyBounds, ClientGone, read_body
from sglang.srt.tenancy.http.request_context import current_identity, set_identity
from sglang.srt.tenancy.user_id import IdentityError
from sglang.srt.utils.auth import (
    AuthLevel,
    _get_auth_level_from_app_and_scope,
)

if TYPE_CHECKING:
    from fastapi import FastAPI
    from starlette.types import ASGIApp, Receive, Scope, Send

# Probes and scrapers carry no identity, in upstream neither a key; nor do browsers that open the
# live page.
_OPEN_PATHS = (*health.PATHS, "/metrics", "/metrics/", "/ping", "/tenant/")
_READING = ("GET", "HEAD")

# Open in upstream to every user, though they tell the admin key or what others do, or change what
# all get.
_OPERATORS_PATHS = (
    "/server_info",
    "/get_server_info",
    "/set_trace_level",
    "/load_lora_adapter_from_tensors",
    "/v1/loads",
    "/get_load",
    "/scale_elastic_ep",
    "/is_scaling_elastic_ep",
)


_START_WITH_ONE = "start the server with --admin-api-key"


class TenantMiddleware:
    """ASGI middleware that resolves who asks. Inert until start-up finds the feature on."""

    resolver: Resolver | None = None
    limiter: RateLimiter | None = None
    body_bounds = BodyBounds()
    health_checks = HealthChecks()
    open_requests = OpenRequests(most=1000)

    def __init__(self, app: ASGIApp, routes: FastAPI):
        self.app = app
        self.routes = routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self.resolver is None or scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        if scope.get("method") in _READING and scope["path"] in health.PATHS:
            await self.health_checks.answer(self.app, scope, receive, send)
            return
        with contextlib.ExitStack() as stack:
            try:
                body, receive = await self._admit(scope, receive, self.resolver, stack)
                self._refuse_early(body)
            except RequestError as error:
                await refuse(error, scope, receive, send, unread=True)
            except ClientGone:
                pass
            else:
                await self._serve(scope, receive, send)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket" or current_identity() is None:
            await self.app(scope, receive, send)
            return
        response = HeldResponse(scope, receive, send)
        try:
            await self.app(scope, receive, response.send)
        except Exception as error:  # noqa: BLE001 - whatever a handler raises is answered
            await response.fail(error)
        else:
            await response.end()

    def _refuse_early(self, body: dict[str, Any]) -> None:
        """Refuse what is answered in the background, and could be refused only after its 200."""
        identity = current_identity()
        if self.limiter is None or identity is None or identity.is_the_server_itself:
            return
        if body.get("background") is True and not isinstance(identity.user_ids, tuple):
            self.limiter.refuse_if_full(identity.user_ids)

    async def _admit(
        self, scope: Scope, receive: Receive, resolver: Resolver, until_end: contextlib.ExitStack
    ) -> tuple[dict[str, Any], Receive]:
        """Return the body, as far as it was read, and a receive that gives it again.

        ``until_end``: is left when the request has been answered.
        """
        reading = scope.get("method") in _READING
        if (reading and scope["path"] in _OPEN_PATHS) or scope.get("method") == "OPTIONS":
            return {}, receive
        headers = scope["headers"]
        level = self._auth_level(scope)
        if level is not AuthLevel.NORMAL:
            # Where users hold keys, no user may flush, reload or abort for all.
            if level is AuthLevel.ADMIN_FORCE or resolver.config.has_keys:
                self._require_admin(scope, resolver)
            return {}, receive
        # Who sends a key that is not known, or none where one is needed, is read no further.
        caller = resolver.check_key(headers) or (scope.get("client") or ["?"])[0]
        if not from_the_server_itself(headers):
            until_end.enter_context(self.open_requests.counted(caller))
        # Without a body (GET /v1/responses/ID) the query makes the claim.
        body = _take_claims(scope)
        if scope.get("method") in ("POST", "PUT"):
            body, receive = await read_body(headers, receive, self.body_bounds)
        set_identity(resolver.resolve(headers, body))
        return body, receive

    def _auth_level(self, scope: Scope) -> AuthLevel:
        if scope["type"] != "http":
            return AuthLevel.NORMAL
        if scope["path"].endswith(_OPERATORS_PATHS):
            return AuthLevel.ADMIN_OPTIONAL
        return _get_auth_level_from_app_and_scope(self.routes, scope)

    def _require_admin(self, scope: Scope, resolver: Resolver) -> None:
        headers = scope["headers"]
        if from_the_server_itself(headers) or resolver.is_admin(headers):
            return
        status, hint = (401, "send it") if resolver.admin_api_key else (403, _START_WITH_ONE)
        fault = f"Authorization: {scope['path']} needs the admin API key; {hint}"
        raise IdentityError(status, "Authorization", fault)


def _take_claims(scope: Scope) -> dict[str, Any]:
    """Take what it says of users out of the query: the access log prints the rest."""
    query = QueryParams(scope.get("query_string", b""))
    rest = [(name, value) for name, value in query.multi_items() if name not in BODY_FIELDS]
    if len(rest) < len(query.multi_items()):
        scope["query_string"] = urlencode(rest).encode()
    return dict(query)
