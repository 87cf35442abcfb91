"""Each route of a server, asked by strangers, a user and the operator."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from server_process import ServerFailed
from support import plugin
from support.asks import TIMEOUT
from support.patience import until
from support.prompts import fresh_user
from support.reload import reload
from support.routes import address
from support.server import Server

from sglang.srt.tenancy.http.routes import ROWS, WEBSOCKET, Access, Row

pytestmark = pytest.mark.server

HEADER = "X-Demo-User"
USER_KEY, GATEWAY_KEY, ADMIN_KEY = (f"sk-{secrets.token_hex(12)}" for _ in range(3))
CONFIG = f'[users.alice]\nkeys = ["{USER_KEY}"]\n[gateway]\nkeys = ["{GATEWAY_KEY}"]\n'

REQUESTS = [
    (method, row)
    for row in ROWS
    for method in row.methods.split()
    # No websockets without a library for them, no dumper unless upstream is asked for it.
    if method != WEBSOCKET and not row.path.startswith("/dumper")
]
# What would stop the others' service, or write to the disk, even with a body that is no JSON.
HARMFUL = {
    *("/start_profile", "/stop_profile", "/slow_down", "/pause_generation", "/weights_checker"),
    *("/release_memory_occupation", "/resume_memory_occupation", "/destroy_weights_update_group"),
    *(f"/{verb}_expert_distribution_record" for verb in ("start", "stop", "dump")),
    *("/freeze_gc", "/hicache/storage-backend", "/scale_elastic_ep", "/configure_logging"),
}


def named(part: object) -> str:
    return part.path if isinstance(part, Row) else str(part)


@pytest.fixture(scope="module")
def config_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("config") / "tenants.toml"
    path.write_text(CONFIG)
    return path


@pytest.fixture(scope="module")
def with_plugin(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of a server whose plugin adds routes."""
    folder = tmp_path_factory.mktemp("plugin")
    return {"PYTHONPATH": plugin.install(folder, "support.more_routes:add")}


@pytest.fixture(scope="module")
def server(tiny_model: Path, config_file: Path, with_plugin: dict[str, str]) -> Iterator[Server]:
    with Server(
        tiny_model,
        *("--enable-tenant-cache", "--tenant-config", str(config_file)),
        *("--tenant-header", HEADER, "--admin-api-key", ADMIN_KEY, "--enable-metrics"),
        *("--tenant-user-routes", "/plugin/{name}", "/plugin/x/control"),
        env=with_plugin,
    ) as server:
        yield server


def ask(server: Server, method: str, path: str, key: str | None = None) -> httpx.Response:
    """Send a body that no handler can read, where the method has one; read no endless answer."""
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    content = b""
    if method in ("POST", "PUT"):
        headers["Content-Type"] = "application/json"
        content = b"{"
    url = server.url + path
    given: dict[str, Any] = {"headers": headers, "content": content, "timeout": TIMEOUT}
    with httpx.stream(method, url, **given) as response:
        if not response.is_success or not path.endswith("/live"):
            response.read()
    return response


@pytest.mark.parametrize(("method", "row"), REQUESTS, ids=named)
def test_who_may_call(server: Server, method: str, row: Row) -> None:
    for key, level in (
        (None, Access.OPEN),
        (f"{USER_KEY}x", Access.OPEN),
        (USER_KEY, Access.USER),
        (ADMIN_KEY, Access.ADMIN),
    ):
        if key == ADMIN_KEY and row.path in HARMFUL:
            continue
        status = ask(server, method, address(row), key).status_code
        if row.access > level:
            assert status == 401, key
        else:
            assert status not in (401, 403), key
            assert status < 500 or key == ADMIN_KEY, key


def test_the_server_serves_on(server: Server) -> None:
    """None of these requests did any harm."""
    headers = {"Authorization": f"Bearer {USER_KEY}"}
    assert server.generate("hello", headers=headers)["meta_info"]["completion_tokens"] == 16
    assert server.http.get("/health_generate").status_code == 200


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "DELETE", "OPTIONS", "BREW"])
def test_nothing_is_below_the_metrics(server: Server, method: str) -> None:
    for path in ("/metrics/x", "/metricsx", "/metrics/metrics"):
        assert ask(server, method, path).status_code == 401
        answer = ask(server, method, path, USER_KEY)
        assert answer.status_code == 404
        assert "sglang" not in answer.text


def test_the_metrics_are_open_to_reading_alone(server: Server) -> None:
    for path in ("/metrics", "/metrics/"):
        for method in ("GET", "HEAD"):
            assert ask(server, method, path).status_code == 200
        for method in ("POST", "DELETE", "OPTIONS", "BREW"):
            assert ask(server, method, path).status_code == 401
            assert ask(server, method, path, USER_KEY).status_code == 404


def test_methods_that_there_are_not_are_one_in_the_metrics(server: Server) -> None:
    for number in range(20):
        assert ask(server, f"BREW{number}", "/v1/models").status_code == 401
        assert ask(server, f"BREW{number}", "/v1/models", USER_KEY).status_code == 405
    metrics = ask(server, "GET", "/metrics").text
    assert "BREW" not in metrics
    assert 'method="other"' in metrics
    assert 'method="GET"' in metrics


@pytest.mark.parametrize("path", ["/health", "/health_generate"])
def test_a_head_does_not_answer_for_a_get(server: Server, path: str) -> None:
    for _ in range(2):
        assert ask(server, "HEAD", path).status_code == 405
        assert ask(server, "GET", path).status_code == 200
    assert ask(server, "POST", path).status_code == 401


def test_a_plugins_routes_are_for_users_or_stricter(server: Server) -> None:
    assert ask(server, "GET", "/plugin/tea").status_code == 401
    for key in (USER_KEY, ADMIN_KEY):
        assert ask(server, "GET", "/plugin/tea", key).json() == {"name": "tea"}
    for stranger in (None, USER_KEY):
        assert ask(server, "POST", "/plugin/x/control", stranger).status_code == 401
    assert ask(server, "POST", "/plugin/x/control", ADMIN_KEY).json() == {"done": "yes"}


def test_the_log_shows_no_user_of_a_query(server: Server) -> None:
    user = fresh_user("carol")
    for path in ("/health", "/tenant/stats", "/v1/models", "/nowhere", "/metrics"):
        for query in (f"user_id={user}", f"x=1&us%65r={user}&y=2", f"safety_identifier={user}"):
            for key in (None, USER_KEY):
                ask(server, "GET", f"{path}?{query}", key)
    until(lambda: "GET /tenant/stats?x=1&us%65r=#" in server.log, "the requests are logged")
    assert user not in server.log


@pytest.mark.parametrize(
    ("config", "fault"),
    [
        (f"require_key = false\n{CONFIG}", "require_key is off now"),
        (CONFIG.partition("[gateway]")[0], "[gateway] lists no key any more"),
        ("", "it lists no key"),
    ],
    ids=["require_key", "gateway", "keys"],
)
def test_a_reload_lets_nobody_in_who_was_not(
    server: Server, config_file: Path, config: str, fault: str
) -> None:
    said = f"Tenant config not reloaded, the old one stays: --tenant-config {config_file}: {fault}"
    reload(server, config_file, config, said)
    assert ask(server, "GET", "/v1/models").status_code == 401
    speaks = {HEADER: "dora"}
    assert httpx.get(f"{server.url}/v1/models", headers=speaks).status_code == 401
    reload(server, config_file, CONFIG)


def test_a_route_that_nobody_decided_on_stops_the_server(
    tiny_model: Path, with_plugin: dict[str, str]
) -> None:
    flags = ("--enable-tenant-cache", "--tenant-user-routes", "/plugin/{name}")
    with pytest.raises(ServerFailed) as failed, Server(tiny_model, *flags, env=with_plugin):
        pass
    said = "The table of routes does not fit, the server stops: POST /plugin/x/control: the table"
    assert said in str(failed.value)
    assert "--tenant-user-routes" in str(failed.value)
