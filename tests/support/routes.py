"""Upstream's application with all of its routes and ours, for tests without a server."""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import FastAPI

from sglang.srt.tenancy.http import startup
from sglang.srt.tenancy.http.admin_api import add_routes
from sglang.srt.tenancy.http.routes import WEBSOCKET, Row

EXAMPLES = {
    "{response_id}": "resp_none",
    "{model:path}": "a/b",
    "{user_id:path}": "team/nobody",
    "{method}": "none",
}


def application(*, metrics: bool = True) -> FastAPI:
    """Make an application that has the routes of a server. Needs PROMETHEUS_MULTIPROC_DIR."""
    policy = asyncio.get_event_loop_policy()  # which the import changes
    from sglang.srt.entrypoints.http_server import app as upstreams
    from sglang.srt.utils import add_prometheus_middleware

    asyncio.set_event_loop_policy(policy)
    app = FastAPI(openapi_url=None)
    startup.install(app)
    app.router.routes.extend(upstreams.router.routes)
    add_routes(app)
    if metrics:
        add_prometheus_middleware(app)
    return app


def address(row: Row) -> str:
    """A path that the route of the row serves."""
    path = row.path
    for parameter, value in EXAMPLES.items():
        path = path.replace(parameter, value)
    return path


def scope(method: str, path: str, *, root: str = "", key: str | None = None) -> dict[str, Any]:
    """What an ASGI server makes of a request, or of a websocket's handshake."""
    websocket = method == WEBSOCKET
    headers = [(b"authorization", f"Bearer {key}".encode())] if key else []
    return {
        "type": "websocket" if websocket else "http",
        "http_version": "1.1",
        **({"subprotocols": []} if websocket else {"method": method}),
        "scheme": "ws" if websocket else "http",
        "path": root + path,
        "raw_path": (root + path).encode(),
        "query_string": b"",
        "root_path": root,
        "headers": headers,
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 2),
    }
