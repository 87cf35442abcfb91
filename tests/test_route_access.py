"""The table of routes: it has each route of the server, and each request gets what it says."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import access_table
import pytest
from fastapi import APIRouter, FastAPI
from starlette.routing import Mount
from support.routes import address, application, scope

from sglang.srt.tenancy.config import TenantConfig
from sglang.srt.tenancy.http.health import HealthChecks
from sglang.srt.tenancy.http.identity import Resolver
from sglang.srt.tenancy.http.middleware import TenantMiddleware
from sglang.srt.tenancy.http.route_access import RouteAccess, UnknownRoute
from sglang.srt.tenancy.http.routes import ROWS, WEBSOCKET, Access, Row
from sglang.srt.utils.auth import AuthLevel, auth_level

pytestmark = pytest.mark.slow  # imports upstream's server

TESTS = Path(__file__).parent
USER_KEY, ADMIN_KEY, STRANGERS_KEY = "sk-user", "sk-admin", "sk-stranger"
HELD = TenantConfig({hashlib.sha256(USER_KEY.encode()).hexdigest(): "alice"}, require_key=True)

# Each method of each route; and of those that upstream has when it is asked to.
REQUESTS = [(method, row) for row in ROWS for method in row.methods.split()]
PRESENT = [(method, row) for method, row in REQUESTS if not row.path.startswith("/dumper")]


@pytest.fixture(scope="module", autouse=True)
def counts_folder(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("counts")
        patch.setenv("PROMETHEUS_MULTIPROC_DIR", str(folder))
        yield


@pytest.fixture
def app() -> FastAPI:
    return application()


@pytest.fixture
def routes(app: FastAPI) -> RouteAccess:
    return RouteAccess(app)


def test_the_table_has_each_route_of_the_server(routes: RouteAccess) -> None:
    routes.check()


@pytest.mark.parametrize(("method", "row"), PRESENT, ids=lambda part: getattr(part, "path", part))
def test_the_server_has_each_route_of_the_table(routes: RouteAccess, method: str, row: Row) -> None:
    for root in ("", "/prefix"):  # with upstream's own mark, where it is stricter
        decision = routes.of(scope(method, address(row), root=root))
        assert (decision.access, decision.path, decision.closed) == (row.access, row.path, False)


def test_no_method_of_a_path_is_there_twice() -> None:
    assert len({(method, row.path) for method, row in REQUESTS}) == len(REQUESTS)


_STARTED_OTHERWISE = """
from sglang.srt.entrypoints.http_server import app
from sglang.srt.tenancy.http.route_access import RouteAccess
routes = RouteAccess(app)
routes.check()
for method, path in (("POST", "/dumper/stop"), ("POST", "/v/predict"), ("GET", "/ollama")):
    scope = {"type": "http", "method": method, "path": path, "root_path": "", "headers": []}
    print(path, routes.of(scope).access.name)
"""


def test_routes_that_the_environment_adds_or_renames() -> None:
    others = {
        "DUMPER_SERVER_PORT": "reuse",
        "AIP_PREDICT_ROUTE": "/v/predict",
        "SGLANG_OLLAMA_ROOT_ROUTE": "/ollama",
        "SGLANG_OLLAMA_CHAT_ROUTE": "/ollama/chat",
        "DISABLE_OPENAPI_DOC": "1",
    }
    done = subprocess.run(
        [sys.executable, "-c", _STARTED_OTHERWISE],
        env={**os.environ, **others},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [
        *("/dumper/stop", "OPERATOR", "/v/predict", "USER", "/ollama", "USER"),
    ]


async def _plugin() -> None: ...


@auth_level(AuthLevel.ADMIN_FORCE)
async def _strict() -> None: ...


def test_an_unknown_route_is_refused_by_name(app: FastAPI, routes: RouteAccess) -> None:
    router = APIRouter(prefix="/plugin")
    router.add_api_route("/{name}", _plugin, methods=["GET", "PUT"])
    app.include_router(router)
    app.add_api_route("/flush_cache", _plugin, methods=["DELETE"])
    app.add_api_websocket_route("/plugin/socket", _plugin)
    app.router.routes.append(Mount("/files", app=FastAPI()))
    app.host("plugin.example", FastAPI())
    with pytest.raises(UnknownRoute) as refused:
        routes.check()
    for named in (
        *("GET PUT /plugin/{name}", "DELETE /flush_cache", "WEBSOCKET /plugin/socket"),
        *("any method of /files", "plugin.example", "--tenant-user-routes"),
    ):
        assert named in str(refused.value)


def test_a_plugins_route_may_be_opened_to_users(app: FastAPI, routes: RouteAccess) -> None:
    app.add_api_route("/plugin/{name}", _plugin, methods=["GET", "PUT"])
    app.add_api_route("/plugin/a/b", _strict, methods=["GET"])
    app.router.routes.append(Mount("/files", app=FastAPI()))
    routes.let_users_call(["/plugin/{name}", "/plugin/a/b", "/files"])
    routes.check()
    assert routes.of(scope("PUT", "/plugin/x")).access is Access.USER
    assert routes.of(scope("GET", "/plugin/a/b")).access is Access.ADMIN
    below = routes.of(scope("GET", "/files/a/b"))
    assert (below.access, below.closed) == (Access.USER, False)


@pytest.mark.parametrize("path", ["/flush_cache", "/tenant/stats", "/metrics"])
def test_users_are_let_to_no_route_of_the_table(routes: RouteAccess, path: str) -> None:
    access = routes.of(scope("GET", path)).access
    routes.let_users_call([path])
    assert routes.of(scope("GET", path)).access is access
    with pytest.raises(UnknownRoute, match=f"--tenant-user-routes {path}: who may call"):
        routes.check()


def test_a_route_that_users_are_let_to_is_there(routes: RouteAccess) -> None:
    routes.let_users_call(["/plugin/x"])
    with pytest.raises(UnknownRoute, match="--tenant-user-routes /plugin/x: the server has no"):
        routes.check()


def test_a_route_that_comes_later_is_closed(
    app: FastAPI, routes: RouteAccess, caplog: pytest.LogCaptureFixture
) -> None:
    routes.check()
    app.add_api_route("/plugin/late", _plugin, methods=["GET"])
    for _ in range(2):
        assert routes.of(scope("GET", "/plugin/late")).closed
    assert [record.getMessage() for record in caplog.records].count(
        "GET /plugin/late: came after start-up, is in no table, and is closed."
    ) == 1


@pytest.mark.parametrize(
    ("method", "path"),
    [
        *(("GET", path) for path in ("/metrics/x", "/metricsx", "/metrics//", "/metrics/metrics")),
        *((method, "/metrics") for method in ("POST", "DELETE", "OPTIONS", "BREW", WEBSOCKET)),
        *((method, "/metrics/x") for method in ("HEAD", "POST", "OPTIONS", WEBSOCKET)),
    ],
)
def test_only_reading_the_metrics_themselves_is_open(
    routes: RouteAccess, method: str, path: str
) -> None:
    for root in ("", "/prefix", "/metrics"):
        decision = routes.of(scope(method, path, root=root))
        assert (decision.access, decision.closed) == (Access.USER, True)


@pytest.mark.parametrize("path", ["/server_info", "/server_info\n", "/prefix/server_info"])
def test_no_spelling_of_a_path_gets_around_the_table(routes: RouteAccess, path: str) -> None:
    root = "/prefix" if path.startswith("/prefix") else ""
    decision = routes.of(scope("GET", path.removeprefix("/prefix"), root=root))
    assert (decision.access, decision.path) == (Access.OPERATOR, "/server_info")


@pytest.mark.parametrize(
    ("method", "path", "access"),
    [
        ("GET", "/nowhere", Access.USER),
        ("GET", "/health/", Access.USER),
        ("POST", "/health", Access.USER),
        ("HEAD", "/health", Access.OPEN),
        ("HEAD", "/generate", Access.USER),
        ("HEAD", "/flush_cache", Access.USER),
        ("DELETE", "/flush_cache", Access.USER),
        ("GET", "/flush_cache/", Access.USER),
        ("OPTIONS", "/flush_cache", Access.OPEN),
        ("OPTIONS", "/nowhere", Access.OPEN),
        (WEBSOCKET, "/flush_cache", Access.USER),
    ],
)
def test_where_no_handler_runs(routes: RouteAccess, method: str, path: str, access: Access) -> None:
    decision = routes.of(scope(method, path))
    assert (decision.access, decision.path, decision.closed) == (access, None, False)


class Asked:
    """The middleware around an application that answers 200 to all that gets there."""

    def __init__(self, routes: RouteAccess):
        self._middleware = TenantMiddleware(self._answer, routes)

    async def _answer(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.accept"})
            return
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def status(self, method: str, path: str, key: str | None) -> int:
        """The answer's status; of a refused websocket the code that it is closed with."""
        sent: list[Any] = []

        async def send(message: Any) -> None:
            sent.append(message)

        async def receive() -> Any:
            return {"type": "http.request", "body": b"{}", "more_body": False}

        await self._middleware(scope(method, path, key=key), receive, send)
        first = sent[0]
        return int(first.get("status") or first.get("code") or 200)


@pytest.mark.parametrize("admin_key", [ADMIN_KEY, None])
@pytest.mark.parametrize("config", [HELD, TenantConfig()], ids=["keys", "no keys"])
async def test_each_request_gets_what_the_table_says(
    routes: RouteAccess,
    monkeypatch: pytest.MonkeyPatch,
    config: TenantConfig,
    admin_key: str | None,
) -> None:
    resolver = Resolver(config, None, "isolate", admin_key)
    monkeypatch.setattr(TenantMiddleware, "resolver", resolver)
    monkeypatch.setattr(TenantMiddleware, "limiter", None)
    asked = Asked(routes)
    held = config.has_keys
    for method, row in PRESENT:
        for key in (None, USER_KEY, ADMIN_KEY, STRANGERS_KEY):
            monkeypatch.setattr(TenantMiddleware, "health_checks", HealthChecks())
            expected = 200
            if row.access is Access.USER and held and key != USER_KEY:
                expected = 200 if key and key == admin_key else 401
            closed = row.access is Access.ADMIN or (held or admin_key)
            if row.access >= Access.OPERATOR and closed and (key is None or key != admin_key):
                expected = 401 if admin_key else 403
            if method == WEBSOCKET and expected != 200:
                expected = 1008  # policy violation
            assert await asked.status(method, address(row), key) == expected, (method, row, key)


async def test_what_is_closed_is_a_404_for_who_may_ask(
    routes: RouteAccess, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolver = Resolver(HELD, None, "isolate", ADMIN_KEY)
    monkeypatch.setattr(TenantMiddleware, "resolver", resolver)
    asked = Asked(routes)
    for method in ("GET", "POST", "OPTIONS"):
        assert await asked.status(method, "/metrics/x", None) == 401
        for key in (USER_KEY, ADMIN_KEY):
            assert await asked.status(method, "/metrics/x", key) == 404


def test_the_document_is_current() -> None:
    assert access_table.DOCUMENT.read_text() == access_table.document(), (
        "run python scripts/access_table.py"
    )


def test_the_document_names_tests_that_there_are() -> None:
    paths = {row.path for row in ROWS}
    assert paths >= {*access_table.BESIDES, *access_table.NOT_ON_THE_SERVER}
    for row in ROWS:
        for test in access_table.tests_of(row):
            file, _, name = test.partition("::")
            text = (TESTS / file).read_text()
            if name:
                assert re.search(rf"\bdef {name}\(", text), test
                assert re.sub(r"{.*", "", row.path) in text, test
