"""Whose word counts: key, header, body, in that order."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

from sglang.srt.tenancy.config import TenantConfig
from sglang.srt.tenancy.http.identity import (
    AnonymousPolicy,
    RequestIdentity,
    Resolver,
    from_the_server_itself,
    headers_of_the_server_itself,
)
from sglang.srt.tenancy.user_id import GATEWAY, IdentityError, check_user_id, digest, process_key

HEADER = "X-User"


def resolve(
    body: dict[str, Any] | None = None,
    headers: dict[str, str] | list[tuple[str, str]] | None = None,
    *,
    keys: dict[str, str] | None = None,
    require_key: bool = True,
    header: str | None = None,
    anonymous: AnonymousPolicy = "isolate",
) -> RequestIdentity:
    holders = {hashlib.sha256(k.encode()).hexdigest(): who for k, who in (keys or {}).items()}
    config = TenantConfig(holders, require_key=require_key and bool(holders))
    pairs = headers.items() if isinstance(headers, dict) else headers or []
    raw = [(name.lower().encode(), value.encode()) for name, value in pairs]
    return Resolver(config, header, anonymous).resolve(raw, body or {})


def refusal(*args: Any, **kwargs: Any) -> tuple[int, str]:
    with pytest.raises(IdentityError) as refused:
        resolve(*args, **kwargs)
    assert str(refused.value).startswith(f"{refused.value.param}: ")
    return refused.value.status_code, refused.value.param


def key(value: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {value}"}


ALICE = {"sk-a": "alice"}


@pytest.mark.parametrize("user_id", ["a", "A.z_0:9@x/y-", "u" * 128])
def test_user_ids(user_id: str) -> None:
    assert check_user_id(user_id, "user_id") == user_id
    assert resolve({"user_id": user_id}).user_ids == user_id


@pytest.mark.parametrize("value", ["", " ", "a b", "é", "a\n", "?x", "u" * 129, 5, True, {}])
@pytest.mark.parametrize("field", ["user_id", "safety_identifier", "user"])
def test_anything_else_is_a_400_that_names_the_field(field: str, value: Any) -> None:
    assert refusal({field: value}) == (400, field)


def test_body_fields_in_their_order() -> None:
    body = {"user_id": "a", "safety_identifier": "b", "user": "c"}
    assert resolve(body).user_ids == "a"
    assert resolve({**body, "user_id": None}).user_ids == "b"
    assert resolve({"user": "c"}).user_ids == "c"
    assert resolve({}).user_ids is None


def test_only_user_id_may_be_a_list() -> None:
    assert resolve({"user_id": ["a", None]}).user_ids == ("a", None)
    assert refusal({"user": ["a"]}) == (400, "user")
    assert refusal({"user_id": ["a", 1]}) == (400, "user_id")


def test_the_header_wins_over_the_body() -> None:
    assert resolve({"user_id": "mallory"}, {HEADER: "alice"}, header=HEADER).user_ids == "alice"
    assert resolve({"user_id": "bob"}, {HEADER: "alice"}).user_ids == "bob"  # flag not set


def test_a_header_must_be_one_user_id() -> None:
    assert refusal({}, {HEADER: ""}, header=HEADER) == (400, HEADER)
    assert refusal({}, [(HEADER, "alice"), (HEADER, "bob")], header=HEADER) == (400, HEADER)


def test_the_key_wins_over_everything() -> None:
    assert resolve(
        {"user": "tag", "safety_identifier": "no user id!"}, key("sk-a"), keys=ALICE
    ) == (RequestIdentity("alice"))
    assert resolve({"user_id": "alice"}, {"x-api-key": "sk-a"}, keys=ALICE).user_ids == "alice"


def test_a_key_holder_may_not_claim_another_user() -> None:
    assert refusal({"user_id": "bob"}, key("sk-a"), keys=ALICE) == (403, "user_id")
    assert refusal({"user_id": ["alice", "bob"]}, key("sk-a"), keys=ALICE) == (403, "user_id")
    named = {**key("sk-a"), HEADER: "bob"}
    assert refusal({}, named, keys=ALICE, header=HEADER) == (403, HEADER)


def test_where_keys_are_bound_a_key_is_needed() -> None:
    assert refusal({"user_id": "alice"}, keys=ALICE) == (401, "Authorization")
    assert refusal({}, key("sk-x"), keys=ALICE) == (401, "Authorization")
    assert refusal({}, {"Authorization": "Basic sk-a"}, keys=ALICE) == (401, "Authorization")


def test_keys_may_be_optional_but_never_for_those_who_have_one() -> None:
    assert resolve({"user_id": "guest"}, keys=ALICE, require_key=False).user_ids == "guest"
    assert refusal({"user_id": "alice"}, keys=ALICE, require_key=False) == (401, "user_id")
    assert refusal({"user": "alice"}, keys=ALICE, require_key=False) == (401, "user_id")


def test_a_gateway_key_makes_the_header_count_and_nothing_else_does() -> None:
    keys = {**ALICE, "sk-g": GATEWAY}
    named = {**key("sk-g"), HEADER: "carol"}
    assert resolve({"user_id": "mallory"}, named, keys=keys, header=HEADER).user_ids == "carol"
    assert refusal({}, {HEADER: "carol"}, keys=keys, header=HEADER) == (401, "Authorization")
    # Without a gateway key in the file the network is the gateway's guard, as documented.
    assert resolve({}, {HEADER: "carol"}, keys=ALICE, header=HEADER).user_ids == "carol"


def test_anonymous_under_reject() -> None:
    assert refusal({}, anonymous="reject") == (401, "user_id")
    assert refusal({"user_id": ["a", None]}, anonymous="reject") == (401, "user_id")
    assert resolve({"user_id": "a"}, anonymous="reject").user_ids == "a"


def test_who_lost_the_user_on_the_way_is_told_where_to_name_one() -> None:
    with_keys: dict[str, Any] = {"keys": {"sk-gw": GATEWAY}, "anonymous": "reject"}
    assert refusal({}, key("sk-gw"), header=HEADER, **with_keys) == (401, HEADER)
    assert refusal({}, header=HEADER, anonymous="reject") == (401, HEADER)
    in_a_list = {"user_id": ["a", None]}
    assert refusal(in_a_list, header=HEADER, anonymous="reject") == (401, "user_id")
    with pytest.raises(IdentityError, match=rf"{HEADER}.*router may have dropped it"):
        resolve({}, header=HEADER, anonymous="reject")
    with pytest.raises(IdentityError, match=r"router dropped it, --tenant-header"):
        resolve({}, anonymous="reject")


def test_the_server_itself_passes_and_names_whom_it_plays() -> None:
    own = headers_of_the_server_itself()
    assert resolve({"user_id": "x"}, own, keys=ALICE, anonymous="reject").user_ids == "x"
    forged = {name: value[:-1] + "!" for name, value in own.items()}
    assert refusal({"user_id": "x"}, forged, keys=ALICE) == (401, "Authorization")


@pytest.mark.parametrize("scope", [None, "private", "none"])
def test_cache_scope(scope: str | None) -> None:
    assert resolve({"cache_scope": scope}).cache_scope == scope


@pytest.mark.parametrize("scope", ["public", "", 1, ["none"]])
def test_more_sharing_cannot_be_asked_for(scope: Any) -> None:
    assert refusal({"cache_scope": scope}) == (400, "cache_scope")


def test_digests_hide_and_tell_apart() -> None:
    assert digest("alice") == digest("alice") != digest("bob")
    assert "alice" not in digest("alice")


@pytest.mark.parametrize("key", ["", "secret", "0" * 63, "g" * 64])
def test_a_process_key_that_is_no_key_is_refused_wherever_it_is_read(
    monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    monkeypatch.setenv("SGLANG_TENANT_PROCESS_KEY", key)
    for read in (process_key, headers_of_the_server_itself, lambda: digest("alice")):
        with pytest.raises(ValueError, match=f"_PROCESS_KEY: {len(key)} characters.*openssl"):
            read()


def test_an_empty_process_key_makes_nobody_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SGLANG_TENANT_PROCESS_KEY", "")
    assert not from_the_server_itself([])
    assert not from_the_server_itself([(b"x-tenant-process-key", b"")])
