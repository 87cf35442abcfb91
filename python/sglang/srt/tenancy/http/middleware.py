"""Resolve every HTTP request's identity before any handler runs.

One ASGI middleware, innermost, so that it sees bodies already decompressed.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from starlette.datastructures import QueryParams

from sglang.srt.tenancy.errors import RequestError
from sglang.srt.tenancy.http import health, scrape_format
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
from sglang.srt.tenancy.http.route_access import Decision, RouteAccess
from sglang.srt.tenancy.http.routes import Access
from sglang.srt.tenancy.user_id import IdentityError
from sglang.srt.tenancy.validation import responses

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

    from sglang.srt.tenancy.http.response_caching import ResponseCaching

# What is served, not to whom: a router asks before it has a user to speak for.
_MODEL_PATHS = ("/v1/models", "/model_info", "/get_model_info")

_START_WITH_ONE = "start the server with --admin-api-key"


class TenantMiddleware:
    """ASGI middleware that resolves who asks. Inert until start-up finds the feature on."""

    resolver: Resolver | None = None
    limiter: RateLimiter | None = None
    body_bounds = BodyBounds()
    health_checks = HealthChecks()
    open_requests = OpenRequests(most=1000)
    response_caching: ResponseCaching | None = None

    def __init__(self, app: ASGIApp, routes: RouteAccess):
        self.app = app
        self.routes = routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self.resolver is None or scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        decision = self.routes.of(scope)
        if decision.path in health.PATHS and scope.get("method") == "GET":
            await self.health_checks.answer(self.app, scope, receive, send)
            return
        if scope["path"] in scrape_format.PATHS:
            scrape_format.ask_for_text(scope)
        with contextlib.ExitStack() as stack:
            try:
                body, receive = await self._admit(decision, scope, receive, self.resolver, stack)
                self._refuse_early(decision.path, body)
            except RequestError as error:
                await refuse(error, scope, receive, send, unread=True)
            except ClientGone:
                pass
            else:
                await self._serve_cached(decision, body, scope, receive, send)

    async def _serve_cached(
        self,
        decision: Decision,
        body: dict[str, Any],
        scope: Scope,
        receive: Receive,
        send: Send,
    ) -> None:
        if self.response_caching is None:
            await self._serve(scope, receive, send)
        else:
            caching = self.response_caching
            await caching.serve(decision.path, body, self._serve, scope, receive, send)

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

    def _refuse_early(self, path: str | None, body: dict[str, Any]) -> None:
        """Refuse what could be refused only after its 200: in the background, or in a stream."""
        if path == responses.PATH:
            responses.check_streamed(body)
        identity = current_identity()
        if self.limiter is None or identity is None or identity.is_the_server_itself:
            return
        if body.get("background") is True and not isinstance(identity.user_ids, tuple):
            self.limiter.refuse_if_full(identity.user_ids)

    async def _admit(
        self,
        decision: Decision,
        scope: Scope,
        receive: Receive,
        resolver: Resolver,
        until_end: contextlib.ExitStack,
    ) -> tuple[dict[str, Any], Receive]:
        """Return the body, as far as it was read, and a receive that gives it again.

        ``until_end``: is left when the request has been answered.
        """
        if decision.access is Access.OPEN:
            return {}, receive
        headers = scope["headers"]
        if decision.access is not Access.USER:
            # Where there are keys at all, no user may flush, reload or abort for all.
            keys = resolver.config.has_keys or resolver.admin_api_key
            if decision.access is Access.ADMIN or keys:
                self._require_admin(scope, resolver)
            return {}, receive
        # Who sends a key that is not known, or none where one is needed, is read no further.
        caller = resolver.check_key(headers) or (scope.get("client") or ["?"])[0]
        if decision.closed:
            raise RequestError(404, "path", f"path: {scope['path'][:80]!r} is not served")
        if not from_the_server_itself(headers):
            until_end.enter_context(self.open_requests.counted(caller))
        # Without a body (GET /v1/responses/ID) the query makes the claim.
        body = _take_claims(scope)
        if decision.path in _MODEL_PATHS:
            return {}, receive
        if scope["type"] == "http":  # a GET may have a body, too
            sent, receive = await read_body(headers, receive, self.body_bounds)
            body = sent if scope["method"] in ("POST", "PUT") else {**body, **sent}
        set_identity(resolver.resolve(headers, body))
        return body, receive

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
