"""Who is asking: keys, the gateway's header and body fields, over HTTP, and what is refused.

The server takes no anonymous requests. It knows Alice by a key, Bob by the hash of one,
and a gateway that may speak for anybody.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from openai import AuthenticationError, BadRequestError, PermissionDeniedError
from support.asks import ENDPOINTS, Asker, http
from support.operator import Operator, refusal_of
from support.prompts import fresh_prompt, fresh_user
from support.reload import reload
from support.server import Server

pytestmark = pytest.mark.server

HEADER = "X-Demo-User"


def fresh_key() -> str:
    return f"sk-{secrets.token_hex(12)}"


@dataclass
class Cast:
    """Users and keys of one server."""

    alice: str = field(default_factory=lambda: fresh_user("alice"))
    bob: str = field(default_factory=lambda: fresh_user("bob"))
    alice_key: str = field(default_factory=fresh_key)
    bob_key: str = field(default_factory=fresh_key)
    gateway_key: str = field(default_factory=fresh_key)
    admin_key: str = field(default_factory=fresh_key)

    def config(self, **more_keys: str) -> str:
        """The tenant config file; ``more_keys`` are users and a key of each."""
        users = "".join(f'[users."{user}"]\nkeys = ["{key}"]\n' for user, key in more_keys.items())
        return f"""
            [users."{self.alice}"]
            keys = ["{self.alice_key}"]
            [users."{self.bob}"]
            key_hashes = ["{hashlib.sha256(self.bob_key.encode()).hexdigest()}"]
            [gateway]
            keys = ["{self.gateway_key}"]
            {users}"""


@pytest.fixture(scope="module")
def cast() -> Cast:
    return Cast()


@pytest.fixture(scope="module")
def config_file(tmp_path_factory: pytest.TempPathFactory, cast: Cast) -> Path:
    path = tmp_path_factory.mktemp("config") / "tenants.toml"
    path.write_text(cast.config())
    return path


@pytest.fixture(scope="module")
def server(tiny_model: Path, cast: Cast, config_file: Path) -> Iterator[Server]:
    with Server(
        tiny_model,
        *("--enable-tenant-cache", "--tenant-mode", "isolated", "--enable-cache-report"),
        *("--tenant-config", str(config_file), "--tenant-header", HEADER),
        *("--tenant-anonymous", "reject", "--admin-api-key", cast.admin_key, "--enable-metrics"),
    ) as server:
        yield server


@pytest.fixture
def alice(server: Server, cast: Cast) -> Asker:
    return Asker(server, cast.alice_key)


@pytest.fixture
def bob(server: Server, cast: Cast) -> Asker:
    return Asker(server, cast.bob_key)


@pytest.fixture
def gateway(server: Server, cast: Cast) -> Asker:
    return Asker(server, cast.gateway_key)


@pytest.fixture
def operator(server: Server, cast: Cast) -> Asker:
    """Who holds the admin key names users in the body."""
    return Asker(server, cast.admin_key)


def speaking_for(gateway: Asker, user: str) -> Asker:
    return Asker(gateway.server, gateway.key, {HEADER: user})


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_a_key_is_its_holder(alice: Asker, bob: Asker, endpoint: str) -> None:
    prompt = fresh_prompt()
    alice.ask(endpoint, prompt)
    assert not bob.ask(endpoint, prompt).hit
    assert alice.ask(endpoint, prompt).hit
    assert bob.ask(endpoint, prompt).hit


def test_a_key_in_anthropics_header(alice: Asker) -> None:
    prompt = fresh_prompt()
    alice.ask("generate", prompt)
    other_way = Asker(alice.server, headers={"x-api-key": alice.key or ""})
    assert other_way.ask("generate", prompt).hit


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_a_holder_may_claim_nobody_else(alice: Asker, cast: Cast, endpoint: str) -> None:
    prompt = fresh_prompt()
    alice.ask(endpoint, prompt, user_id=cast.alice)
    assert alice.ask(endpoint, prompt).hit
    for claim in (cast.bob, [cast.bob], fresh_user()):
        assert_refused(alice, endpoint, 403, "user_id", user_id=claim)
    claimant = Asker(alice.server, alice.key, {HEADER: cast.bob})
    assert_refused(claimant, endpoint, 403, HEADER)


def assert_refused(asker: Asker, endpoint: str, status: int, param: str, **body: Any) -> None:
    """The answer has that status, names ``param``, and is OpenAI's error of that status."""
    if endpoint.startswith("generate"):
        request = {"text": "x", "stream": endpoint.endswith("streaming")} | body
        assert_error(asker.post("/generate", request), status, param)
        return
    errors = {400: BadRequestError, 401: AuthenticationError, 403: PermissionDeniedError}
    with pytest.raises(errors[status], match=param) as caught:
        asker.ask(endpoint, "x", **body)
    assert caught.value.param == param


def assert_error(response: httpx.Response, status: int, param: str) -> None:
    error = response.json()["error"]
    assert (response.status_code, error["code"], error["param"]) == (status, status, param)
    assert param in error["message"]


def test_tags_of_a_holder_are_no_claims(alice: Asker, bob: Asker, cast: Cast) -> None:
    prompt = fresh_prompt()
    alice.ask("chat", prompt, user=cast.bob, safety_identifier=fresh_user())
    assert not bob.ask("chat", prompt).hit
    assert alice.ask("chat", prompt).hit


def test_the_gateway_names_users(gateway: Asker, alice: Asker, cast: Cast) -> None:
    prompt, dora = fresh_prompt(), fresh_user()
    speaking_for(gateway, dora).ask("chat", prompt)
    assert speaking_for(gateway, fresh_user()).ask("chat", prompt).cached == 0
    assert not speaking_for(gateway, cast.alice).ask("chat", prompt).hit
    assert speaking_for(gateway, dora).ask("chat", prompt).hit
    assert alice.ask("chat", prompt).hit, "the gateway spoke for her"


def test_the_header_wins_over_the_body(gateway: Asker, operator: Asker) -> None:
    prompt, dora, eve = fresh_prompt(), fresh_user(), fresh_user()
    speaking_for(gateway, dora).ask("generate", prompt, user_id=eve)
    assert operator.ask("generate", prompt, user_id=eve).cached == 0
    assert operator.ask("generate", prompt, user_id=dora).hit


@pytest.mark.parametrize("endpoint", ["completions", "chat streaming", "responses"])
def test_body_fields_in_their_order(operator: Asker, endpoint: str) -> None:
    one, two, three = fresh_user(), fresh_user(), fresh_user()
    for fields, known_as in (
        ({"user": three, "safety_identifier": two, "user_id": one}, one),
        ({"user": three, "safety_identifier": two}, two),
        ({"user": three}, three),
    ):
        prompt = fresh_prompt()
        operator.ask(endpoint, prompt, **fields)
        for user in (one, two, three):
            assert operator.ask(endpoint, prompt, user_id=user).hit == (user == known_as)


BAD_USERS = ["", "a b", "ä", "a\n", "?anonymous", "x" * 129, 5, True, {"a": 1}]


@pytest.mark.parametrize("user", BAD_USERS, ids=repr)
@pytest.mark.parametrize("field", ["user_id", "safety_identifier", "user"])
def test_a_bad_user_is_refused(operator: Asker, field: str, user: Any) -> None:
    for endpoint in ("generate streaming", "chat"):
        assert_refused(operator, endpoint, 400, field, **{field: user})


def test_the_longest_user_is_taken(operator: Asker) -> None:
    prompt, longest = fresh_prompt(), fresh_user().ljust(128, "x")
    operator.ask("generate", prompt, user_id=longest)
    assert operator.ask("generate", prompt, user_id=longest).hit


@pytest.mark.parametrize("endpoint", ENDPOINTS)
@pytest.mark.parametrize(
    ("field", "value"),
    [("user_id", ["a", 5]), ("user_id", ["a", "b"]), ("user_id", []), ("user", ["a"])],
)
def test_a_bad_list_of_users_is_refused(
    operator: Asker, endpoint: str, field: str, value: Any
) -> None:
    assert_refused(operator, endpoint, 400, field, **{field: value})


@pytest.mark.parametrize("scope", ["public", "", 1, ["none"]])
def test_a_bad_scope_is_refused(alice: Asker, scope: Any) -> None:
    for endpoint in ("generate streaming", "responses"):
        assert_refused(alice, endpoint, 400, "cache_scope", cache_scope=scope)


def test_a_bad_header_is_refused(gateway: Asker) -> None:
    assert_refused(speaking_for(gateway, "a b"), "chat", 400, HEADER)
    twice = [(HEADER, fresh_user()), (HEADER, fresh_user()), *gateway.all_headers.items()]
    url = gateway.server.url + "/generate"
    assert_error(http.post(url, headers=twice, json={"text": "x"}), 400, HEADER)


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_strangers_are_refused(server: Server, endpoint: str) -> None:
    assert_refused(Asker(server, fresh_key()), endpoint, 401, "Authorization")
    assert_refused(Asker(server, fresh_key()), endpoint, 401, "Authorization", user_id=fresh_user())


@pytest.mark.parametrize(
    "path", ["/generate", "/v1/chat/completions", "/v1/messages", "/invocations"]
)
def test_without_a_key_nobody_is_served(server: Server, cast: Cast, path: str) -> None:
    for asker in (Asker(server), Asker(server, headers={HEADER: cast.alice})):
        response = asker.post(path, {"text": "x", "user_id": cast.alice})
        assert_error(response, 401, "Authorization")
        assert response.headers["WWW-Authenticate"] == "Bearer"


def test_without_a_key_nothing_is_told(server: Server) -> None:
    for path in ("/v1/models", "/server_info", "/v1/loads", "/v1/responses/x"):
        assert http.get(server.url + path).status_code == 401
    for path in ("/health", "/health_generate"):
        assert http.get(server.url + path).status_code == 200


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_anonymous_is_refused(gateway: Asker, endpoint: str) -> None:
    assert_refused(gateway, endpoint, 401, HEADER)


def test_what_is_served_is_told_without_a_user(gateway: Asker) -> None:
    """To routers, which ask before they have a user to speak for."""
    for path in ("/v1/models", "/model_info"):
        answer = http.get(gateway.server.url + path, headers=gateway.all_headers)
        assert answer.status_code == 200, answer.text


def test_anonymous_in_a_list_is_refused(operator: Asker) -> None:
    body = {"text": ["x", "y"], "user_id": [fresh_user(), None]}
    assert_error(operator.post("/generate", body), 401, "user_id")


OPERATORS = [
    ("POST", "/flush_cache", None),
    ("POST", "/abort_request", {"rid": "none"}),
    ("POST", "/tenant/selftest", None),
    # These tell the operators' key.
    ("GET", "/server_info", None),
    ("GET", "/get_server_info", None),
]


@pytest.mark.parametrize(("method", "path", "body"), OPERATORS)
def test_operators_need_their_key(
    server: Server, alice: Asker, gateway: Asker, cast: Cast, method: str, path: str, body: Any
) -> None:
    def status(asker: Asker) -> int:
        url = server.url + path
        return http.request(method, url, json=body, headers=asker.all_headers).status_code

    for asker in (Asker(server), Asker(server, fresh_key()), alice, gateway):
        assert status(asker) == 401
    assert status(Asker(server, cast.admin_key)) == 200


def test_the_operators_key_is_no_users(server: Server, cast: Cast) -> None:
    """It must name one, as a gateway does."""
    operator = Asker(server, cast.admin_key)
    assert_refused(operator, "chat", 401, HEADER)
    assert operator.ask("chat", fresh_prompt(), user_id=cast.alice).prompt_tokens


def test_the_selftest_passes(server: Server, cast: Cast) -> None:
    answer = Asker(server, cast.admin_key).post("/tenant/selftest").json()
    assert answer["passed"]
    assert [check.partition(":")[0] for check in answer["checks"]] == [
        "/generate",
        "/v1/completions",
    ]


def test_where_nothing_is_public_nothing_is_published(server: Server, cast: Cast) -> None:
    operator = Operator(server, cast.admin_key)
    assert operator.json("GET", "/tenant/stats")["mode"] == "isolated"
    path = "/tenant/public_prefixes"
    for answer in (
        operator.ask("GET", path),
        operator.ask("POST", path, {"text": fresh_prompt()}),
        operator.ask("DELETE", f"{path}?name=x"),
    ):
        assert "--tenant-mode selective" in refusal_of(answer, 409, "tenant_mode")


def test_reload(server: Server, alice: Asker, cast: Cast, config_file: Path) -> None:
    newcomer = Asker(server, fresh_key())
    assert_refused(newcomer, "chat", 401, "Authorization")
    new_config = cast.config(**{fresh_user(): newcomer.key or ""})
    reload(server, config_file, new_config, "Tenant config reloaded: 4 keys.")
    newcomer.ask("chat", "x")
    reload(server, config_file, "[users", "Tenant config not reloaded, the old one stays")
    newcomer.ask("chat", "x")
    alice.ask("chat", "x")
    # A file that is being written: nobody comes in without a key.
    reload(server, config_file, "", "Tenant config not reloaded, the old one stays")
    assert_refused(Asker(server), "chat", 401, "Authorization")
    reload(server, config_file, cast.config(), "Tenant config reloaded: 3 keys.")
    assert_refused(newcomer, "chat", 401, "Authorization")
    alice.ask("chat", "x")


def test_the_log_names_nobody(alice: Asker, gateway: Asker, cast: Cast) -> None:
    prompt, dora, stranger = fresh_prompt(), fresh_user(), fresh_key()
    for endpoint in ENDPOINTS:
        alice.ask(endpoint, prompt, user=cast.bob)
        speaking_for(gateway, dora).ask(endpoint, prompt)
        assert_refused(alice, endpoint, 403, "user_id", user_id=dora)
    Asker(alice.server, stranger).post("/generate", {"text": prompt})
    alice.post(f"/generate?user_id={dora}", {"text": prompt})
    http.get(f"{alice.server.url}/v1/responses/x?user={dora}", headers=alice.all_headers)
    log = alice.server.log
    assert "GET /v1/responses/x HTTP" in log
    keys = [cast.alice_key, cast.bob_key, cast.gateway_key, cast.admin_key, stranger]
    for secret in (prompt, dora, cast.alice, cast.bob, *keys):
        assert secret not in log


def get(server: Server, path: str, *keys: str, method: str = "GET") -> httpx.Response:
    """Ask with these bytes as a key, or with none."""
    headers = [(b"Authorization", b"Bearer " + key.encode()) for key in keys]
    return httpx.request(method, server.url + path, headers=headers, timeout=60)


@pytest.mark.parametrize(
    "path", ["/v1/loads", "/get_load", "/is_scaling_elastic_ep", "/server_info", "/tenant/stats"]
)
def test_what_others_do_is_told_to_operators(server: Server, cast: Cast, path: str) -> None:
    assert get(server, path).status_code == 401
    assert get(server, path, cast.alice_key).status_code == 401
    assert get(server, path, "sk-\u00e9\u4e16").status_code == 401
    assert get(server, path, cast.admin_key).status_code not in (401, 403)


def test_a_key_beyond_ascii_is_not_known(server: Server) -> None:
    assert get(server, "/v1/models", "sk-\u00e9\u4e16").status_code == 401


@pytest.mark.parametrize("path", ["/metrics/anything", "/health/anything", "/healthy"])
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_nothing_behind_an_open_path_is_open(server: Server, path: str, method: str) -> None:
    assert get(server, path, method=method).status_code == 401


def test_health_checks_share_an_answer(server: Server) -> None:
    """Each computes a token, and anybody may ask."""
    began = server.log.count("GET /health_generate")
    with httpx.Client(base_url=server.url, timeout=60) as asking:
        statuses = [asking.get("/health_generate").status_code for _ in range(20)]
    assert statuses == [200] * 20
    assert server.log.count("GET /health_generate") == began + 20


def test_metrics_name_only_paths_that_there_are(server: Server, cast: Cast) -> None:
    user = fresh_user("carol")
    size = len(get(server, "/metrics").content)
    for number in range(200):
        get(server, f"/invented/{number}")
    get(server, f"/tenant/users/{user}/cache/", cast.admin_key, method="DELETE")
    metrics = get(server, "/metrics").text
    assert "/invented" not in metrics
    assert user not in metrics
    assert 'endpoint="other"' in metrics
    assert len(metrics) < size + 20_000


def test_a_gateway_without_the_header_speaks_for_nobody(gateway: Asker, cast: Cast) -> None:
    assert_refused(gateway, "chat", 403, "user_id", user_id=cast.alice)


@pytest.mark.parametrize("users", [[], ["ALICE", "ALICE"], [["ALICE"]]])
def test_a_list_of_users_fits_the_prompts(alice: Asker, cast: Cast, users: list[Any]) -> None:
    text = str(users).replace("ALICE", cast.alice)
    body = f'{{"text": "x", "user_id": {text}}}'.replace("'", '"')
    response = http.post(
        f"{alice.server.url}/generate",
        content=body,
        headers={"Authorization": f"Bearer {alice.key}", "Content-Type": "application/json"},
    )
    assert response.status_code == 400, response.text
    assert response.json()["error"]["param"] == "user_id"
