"""Start the HTTP side: middleware, endpoints, config, and the proof that isolation holds."""

from __future__ import annotations

import asyncio
import signal
from functools import partial
from typing import TYPE_CHECKING

from sglang.srt.tenancy.config import TenantConfig
from sglang.srt.tenancy.http.connections import OpenRequests
from sglang.srt.tenancy.http.identity import Resolver, headers_of_the_server_itself
from sglang.srt.tenancy.http.log import logger
from sglang.srt.tenancy.http.middleware import TenantMiddleware
from sglang.srt.tenancy.http.rate_limiter import RateLimiter
from sglang.srt.tenancy.http.request_body import BodyBounds
from sglang.srt.tenancy.http.response_store import MOST_STORED, OwnedStore
from sglang.srt.tenancy.http.route_access import RouteAccess

if TYPE_CHECKING:
    from fastapi import FastAPI

    from sglang.srt.tenancy.flags import TenantOptions


def install(app: FastAPI) -> None:
    """Put the middleware around the handlers. To be called before any other one is added."""
    app.state.tenant_routes = RouteAccess(app)
    app.add_middleware(TenantMiddleware, routes=app.state.tenant_routes)


def own_headers(options: TenantOptions) -> dict[str, str]:
    """Return the headers by which the middleware knows the server's own warm-up."""
    return headers_of_the_server_itself() if options.enable_tenant_cache else {}


async def start(app: FastAPI, options: TenantOptions) -> None:
    """Start resolving identities, then prove that isolation holds. In each HTTP process.

    The server must not start where this raises: UnknownRoute, ConfigError, or SelfTestError where
    isolation does not hold.
    """
    if not options.enable_tenant_cache:
        return
    config = TenantConfig.of(options)
    admin_api_key = getattr(options, "admin_api_key", None)
    resolver = Resolver(config, options.tenant_header, options.tenant_anonymous, admin_api_key)
    TenantMiddleware.resolver = resolver
    OwnedStore.most = MOST_STORED
    limiter = RateLimiter(
        lambda user: resolver.config.limits_of(user), getattr(options, "tokenizer_worker_num", 1)
    )
    TenantMiddleware.limiter = limiter
    TenantMiddleware.body_bounds = BodyBounds.of(options)
    TenantMiddleware.open_requests = OpenRequests(options.tenant_max_connections)
    # Imported here: with the feature off, the server has no endpoint more than upstream.
    from sglang.srt.entrypoints.http_server import get_global_state
    from sglang.srt.tenancy.control.client import control_client_of
    from sglang.srt.tenancy.control.messages import UserErased
    from sglang.srt.tenancy.detect import service as detector
    from sglang.srt.tenancy.grammar import service as grammar_trials
    from sglang.srt.tenancy.grammar.log import hide_grammars
    from sglang.srt.tenancy.http import (
        engine_hooks,
        foreign_keys,
        garbage,
        page,
        process_metrics,
        request_paths,
        response_caching,
        ticker,
        uvicorn_faults,
    )
    from sglang.srt.tenancy.http.access_log import hide_users
    from sglang.srt.tenancy.http.admin_api import add_routes
    from sglang.srt.tenancy.http.config_reload import Reloader, warn_of_hidden
    from sglang.srt.tenancy.http.error_messages import hide_messages
    from sglang.srt.tenancy.http.selftest import prove_at_startup, server_stops_on_failure
    from sglang.srt.tenancy.http.user_endpoints import UserAdministration
    from sglang.srt.tenancy.http.user_erasure import forget
    from sglang.srt.tenancy.http.warming import warm_file
    from sglang.srt.tenancy.state_file import StateFile

    foreign_keys.install()
    page.install()
    request_paths.install()
    uvicorn_faults.install(options.tenant_body_timeout)
    manager = get_global_state().tokenizer_manager
    trials = grammar_trials.of_server(manager, options)
    engine_hooks.install(manager, limiter, trials)
    hide_users()
    hide_grammars()
    hide_messages()
    add_routes(app)
    routes: RouteAccess = app.state.tenant_routes
    with server_stops_on_failure(app, "The table of routes does not fit"):
        routes.let_users_call(options.tenant_user_routes or ())
        routes.check()
    client = control_client_of(app)
    client.on(UserErased, lambda notice: forget(app, notice.user))
    with server_stops_on_failure(app, "No response cache"):
        caching = response_caching.start(app, options, resolver, client)
    TenantMiddleware.response_caching = caching
    state = StateFile(options.tenant_state) if options.tenant_state else None
    app.state.tenant_users = UserAdministration(resolver, client, state)
    if options.tenant_config:
        path = options.tenant_config
        reloader = Reloader(resolver, path, client.configure, partial(warm_file, app))
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, reloader.hangup)
    if not config.has_keys and not options.tenant_header:
        logger.warning(
            "Tenant identities come only from request bodies: whoever can reach this server can "
            "name any user. Bind them with --tenant-config or --tenant-header."
        )
    with server_stops_on_failure(app, "Public prefixes not published"):
        resolver.config = await client.configure(config)
    warn_of_hidden(resolver.config)
    ticker.start(client, options)
    metrics = process_metrics.start(limiter, client, options, caching)
    await prove_at_startup(app, options)
    with server_stops_on_failure(app, "Public prefixes not computed"):
        await warm_file(app, resolver.config)
    manager = get_global_state().tokenizer_manager
    await detector.start(client, manager, options, metrics.observe_latency())
    await garbage.freeze(manager)
