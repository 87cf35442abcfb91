"""The middleware around the handlers, and the stamp on the engine's requests."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, TypeVar
from unittest.mock import MagicMock, Mock

import httpx
import pytest
from fastapi import FastAPI, Request
from fastapi.responses import StreamingResponse

from sglang.srt.managers.io_struct import GenerateReqInput
from sglang.srt.tenancy.config import TenantConfig
from sglang.srt.tenancy.flags import TenantOptions
from sglang.srt.tenancy.http import request_context, startup
from sglang.srt.tenancy.http.identity import RequestIdentity, Resolver
from sglang.srt.tenancy.http.middleware import TenantMiddleware
from sglang.srt.tenancy.http.response_store import MOST_STORED, OwnedStore
from sglang.srt.tenancy.user_id import SHARED_ANONYMOUS, IdentityError
from sglang.srt.utils.auth import AuthLevel, auth_level

T = TypeVar("T")


def options(**changes: Any) -> TenantOptions:
    return TenantOptions(**({"enable_tenant_cache": True, "tenant_mode": "isolated"} | changes))


def run(work: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(work)


def stamped(**fields: Any) -> GenerateReqInput:
    obj = GenerateReqInput(**fields)
    obj.normalize_batch_and_arguments()
    request_context.stamp(obj, options())
    return obj


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch) -> FastAPI:
    """Handlers that report whom the middleware found."""
    app = FastAPI()
    startup.install(app)
    app.state.tenant_routes.let_users_call(
        ["/plain", "/stream", "/task", "/read", "/operators_only", "/slow", "/stored"]
    )
    monkeypatch.setattr(TenantMiddleware, "resolver", Resolver(TenantConfig(), None, "isolate"))

    def seen() -> Any:
        obj = GenerateReqInput(text="x", rid="r")
        obj.normalize_batch_and_arguments()
        request_context.stamp(obj, options())
        return {"user_id": obj.user_id, "cache_scope": obj.cache_scope}

    @app.post("/plain")
    async def plain(request: Request) -> Any:
        return {**seen(), "body": await request.json()}

    @app.post("/stream")
    async def stream() -> StreamingResponse:
        async def parts() -> Any:
            await asyncio.sleep(0)
            yield str(seen()["user_id"])

        return StreamingResponse(parts())

    @app.post("/task")
    async def task() -> Any:
        async def work() -> Any:
            return seen()

        return await asyncio.create_task(work())

    @app.get("/read")
    async def read() -> Any:
        return seen()

    @app.post("/operators_only")
    @auth_level(AuthLevel.ADMIN_OPTIONAL)
    async def operators_only() -> Any:
        return {}

    return app


async def send(app: FastAPI, method: str, path: str, **kwargs: Any) -> httpx.Response:
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        return await client.request(method, path, **kwargs)


@pytest.mark.parametrize("path", ["/plain", "/stream", "/task"])
def test_handlers_streams_and_tasks_all_know_the_user(app: FastAPI, path: str) -> None:
    reply = run(send(app, "POST", path, json={"user_id": "alice"}))
    assert "alice" in reply.text


def test_the_handler_still_gets_its_body_in_one_piece(app: FastAPI) -> None:
    async def parts() -> Any:
        yield b'{"user_id": "al'
        yield b'ice", "n": [1, 2]}'

    json = {"content-type": "application/json"}
    reply = run(send(app, "POST", "/plain", content=parts(), headers=json)).json()
    assert reply["user_id"] == "alice"
    assert reply["body"] == {"user_id": "alice", "n": [1, 2]}


def test_requests_at_the_same_time_do_not_mix(app: FastAPI) -> None:
    async def all_at_once() -> list[httpx.Response]:
        users = [f"user-{i}" for i in range(50)]
        return await asyncio.gather(
            *(send(app, "POST", "/stream", json={"user_id": user}) for user in users)
        )

    assert [reply.text for reply in run(all_at_once())] == [f"user-{i}" for i in range(50)]


def test_a_get_claims_in_its_query(app: FastAPI) -> None:
    assert run(send(app, "GET", "/read?user_id=alice")).json()["user_id"] == "alice"


@pytest.mark.parametrize("body", [b"[1]", b"{", b"", b"3"])
def test_a_body_that_is_no_object_is_anonymous(app: FastAPI, body: bytes) -> None:
    json = {"content-type": "application/json"}
    reply = run(send(app, "POST", "/task", content=body, headers=json)).json()
    assert reply["user_id"].startswith("?")
    assert reply["cache_scope"] == "none"


def test_a_refusal_has_openais_shape(app: FastAPI) -> None:
    reply = run(send(app, "POST", "/plain", json={"user_id": "a b"}))
    assert reply.status_code == 400
    error = reply.json()["error"]
    assert (error["type"], error["param"], error["code"]) == (
        "invalid_request_error",
        "user_id",
        400,
    )


@pytest.mark.parametrize(
    "prompts", [{"text": "x"}, {"prompt": ["x"]}, {"input_ids": [1, 2]}, {"messages": [{}, {}]}]
)
def test_more_users_than_prompts_is_refused_before_a_stream_can_start(
    app: FastAPI, prompts: dict[str, Any]
) -> None:
    reply = run(send(app, "POST", "/stream", json={"user_id": ["a", "b"], **prompts}))
    assert reply.status_code == 400


def test_operators_endpoints_need_the_admin_key_where_users_hold_keys(
    app: FastAPI, monkeypatch: pytest.MonkeyPatch
) -> None:
    def status(**headers: str) -> int:
        return run(send(app, "POST", "/operators_only", headers=headers)).status_code

    assert status() == 200  # no keys: upstream's own rule
    config = TenantConfig({"0" * 64: "alice"}, require_key=True)
    monkeypatch.setattr(TenantMiddleware, "resolver", Resolver(config, None, "isolate"))
    assert status() == 403  # no admin key exists
    known = Resolver(config, None, "isolate", admin_api_key="sk-admin")
    monkeypatch.setattr(TenantMiddleware, "resolver", known)
    assert status() == status(Authorization="Bearer sk-x") == 401
    assert status(Authorization="Bearer sk-admin") == 200


def test_stamp_gives_each_prompt_its_user() -> None:
    assert stamped(text="x", user_id="a").user_id == "a"
    batch = stamped(text=["x", "y"], user_id=["a", "b"])
    assert [batch[i].user_id for i in range(2)] == ["a", "b"]
    one_for_all = stamped(text=["x", "y"], user_id="a", cache_scope="none")
    assert [(one_for_all[i].user_id, one_for_all[i].cache_scope) for i in range(2)] == [
        ("a", "none")
    ] * 2


def test_stamp_follows_parallel_sampling() -> None:
    obj = stamped(text=["x", "y"], user_id=["a", None], sampling_params={"n": 3})
    users = [obj[i].user_id for i in range(6)]
    assert users[0::2] == ["a"] * 3
    assert all(user.startswith("?") for user in users[1::2])
    assert [obj[i].cache_scope for i in range(6)] == [None, "none"] * 3


def test_no_two_anonymous_requests_are_the_same_user() -> None:
    batch = stamped(text=["x", "y"])
    assert batch.user_id[0] != batch.user_id[1] != stamped(text="x").user_id
    assert set(batch.cache_scope) == {"none"}


def test_shared_anonymous_requests_are_one_user() -> None:
    obj = GenerateReqInput(text=["x", "y"])
    obj.normalize_batch_and_arguments()
    request_context.stamp(obj, options(tenant_anonymous="share"))
    assert obj.user_id == [SHARED_ANONYMOUS] * 2
    assert obj.cache_scope == [None] * 2


def test_stamp_refuses_a_list_that_does_not_fit() -> None:
    with pytest.raises(IdentityError, match="user_id: 1 users for 2 prompts"):
        stamped(text=["x", "y"], user_id=["a"])


@pytest.mark.parametrize("junk", [5, ["a"], {"b": 1}, "a b"])
def test_with_the_feature_off_the_fields_are_ignored(junk: Any) -> None:
    obj = GenerateReqInput(text="x", user_id=junk, cache_scope=junk)
    obj.normalize_batch_and_arguments()
    request_context.stamp(obj, options(enable_tenant_cache=False))
    assert obj.user_id is None
    assert obj.cache_scope is None


@pytest.mark.parametrize("user", ["alice", None])
@pytest.mark.parametrize("prompt", [{"text": "x"}, {"input_ids": [1, 2]}])
def test_stamp_takes_a_request_that_was_not_normalized(
    prompt: dict[str, Any], user: str | None
) -> None:
    obj = GenerateReqInput(**prompt, user_id=user)
    request_context.stamp(obj, options())
    assert obj.user_id.startswith(user or "?")
    assert obj.cache_scope == (None if user else "none")
    request_context.stamp(obj, options(enable_tenant_cache=False))
    assert (obj.user_id, obj.cache_scope) == (None, None)


def test_a_request_is_normalized_once() -> None:
    obj = GenerateReqInput(text="x", user_id="a", sampling_params={"n": 3})
    for _ in range(2):
        request_context.normalize_once(obj, options())
        assert obj.text == ["x"] * 3
        assert obj.user_id == ["a"] * 3


def test_stamp_takes_a_request_without_attributes() -> None:
    obj: Any = SimpleNamespace()
    request_context.stamp(obj, options())
    assert obj.user_id.startswith("?")
    request_context.stamp(obj, options(enable_tenant_cache=False))
    assert (obj.user_id, obj.cache_scope) == (None, None)
    with As("alice"):
        request_context.stamp(obj, options())
    assert obj.user_id == "alice"


def test_stamp_takes_what_upstreams_tests_give_a_tokenizer_manager() -> None:
    given: tuple[Any, ...] = (Mock(), SimpleNamespace(), options())
    for arguments in given:
        for single in (True, False):
            obj = MagicMock(spec=GenerateReqInput)
            obj.is_single = single
            request_context.stamp(obj, arguments)


@dataclass
class As:
    """Within it, requests are this user's."""

    user: str
    token: Any = field(default=None, init=False)

    def __enter__(self) -> None:
        self.token = request_context._identity.set(RequestIdentity(self.user))

    def __exit__(self, *_: object) -> None:
        request_context._identity.reset(self.token)


@pytest.fixture
def store() -> Any:
    return OwnedStore()


def test_two_users_sessions_of_one_name_are_two() -> None:
    with As("alice"):
        hers = request_context.internal_session_name("S", options())
        assert request_context.client_session_name(hers, options()) == "S"
    with As("bob"):
        assert request_context.internal_session_name("S", options()) != hers
        assert request_context.internal_session_name(hers, options()) != hers
    assert "alice" not in hers
    with As("alice"):
        assert request_context.internal_session_name("S", options(enable_tenant_cache=False)) == "S"


def test_stored_responses_are_found_by_their_user_only(store: Any) -> None:
    with As("alice"):
        store["resp_1"] = "hers"
    with As("bob"):
        assert "resp_1" not in store
        assert store.get("resp_1") is None
        with pytest.raises(KeyError):
            store["resp_1"]
        assert store.pop("resp_1", None) is None
    with As("alice"):
        assert store["resp_1"] == store.pop("resp_1") == "hers"


@pytest.fixture
def bounded(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(OwnedStore, "most", MOST_STORED)
    return OwnedStore()


@pytest.mark.slow
def test_responses_of_users_who_are_gone_are_not_stored_for_ever(bounded: Any) -> None:
    for number in range(200_000):
        with As(f"u{number}"):
            bounded[f"resp_{number}"] = number
    assert len(bounded) == len(bounded._ages) == len(bounded._of) == MOST_STORED
    with As("u0"):
        assert bounded.get("resp_0") is None
        with pytest.raises(ValueError, match=r"previous_response_id: .* not stored any more"):
            bounded["resp_0"]
    with As("u199999"):
        assert bounded.pop("resp_199999") == 199_999
    assert len(bounded) == len(bounded._of) == MOST_STORED - 1


def test_one_users_responses_do_not_drive_out_others(bounded: Any) -> None:
    with As("bob"):
        bounded["resp"] = "his"
    with As("alice"):
        for number in range(20_000):
            bounded[number] = number
            bounded[number] = number  # its status changed
        assert 20_000 - bounded.most_of_one - 1 not in bounded
        assert 20_000 - bounded.most_of_one in bounded
    with As("bob"):
        assert bounded["resp"] == "his"


def test_a_response_under_way_is_not_dropped(bounded: Any) -> None:
    with As("alice"):
        bounded["resp"] = begun = SimpleNamespace(status="in_progress")
        for number in range(2_000):
            bounded[number] = number
        assert bounded["resp"] is begun
        begun.status = "completed"
        bounded["one more"] = 0
        assert "resp" not in bounded


def test_with_the_feature_off_all_is_stored(store: Any) -> None:
    for number in range(2 * MOST_STORED):
        store[number] = number
    assert len(store) == 2 * MOST_STORED


def test_an_erased_users_stored_responses_are_gone(store: Any) -> None:
    for user in ("alice", "bob"):
        with As(user):
            store["resp_1"] = user
    assert store.forget("alice") == ["resp_1"]
    assert store.forget("alice") == []
    with As("alice"):
        assert "resp_1" not in store
    with As("bob"):
        assert store["resp_1"] == "bob"


def test_a_request_that_was_under_way_when_its_user_was_erased_stores_nothing(app: FastAPI) -> None:
    store = OwnedStore()
    entered, erased = asyncio.Event(), asyncio.Event()

    @app.post("/slow")
    async def slow() -> None:
        entered.set()
        await erased.wait()
        store["resp_1"] = "late"

    @app.post("/stored")
    async def stored() -> Any:
        store["resp_2"] = "new"
        return sorted(key for _, key in store)

    async def play() -> Any:
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(app), base_url="http://x"
        ) as client:
            late = asyncio.create_task(client.post("/slow", json={"user_id": "alice"}))
            await entered.wait()
            request_context.forget_requests("alice")
            erased.set()
            await late
            return (await client.post("/stored", json={"user_id": "alice"})).json()

    assert run(play()) == ["resp_2"]
    assert not request_context._owners
