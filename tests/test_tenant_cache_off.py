"""Without ``--enable-tenant-cache`` the server is upstream's: its fields mean nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.asks import ENDPOINTS, Asker
from support.prompts import fresh_prompt, fresh_user
from support.reference import is_greedy
from support.server import Server

pytestmark = pytest.mark.server


@pytest.fixture(scope="module")
def server(tiny_model: Path) -> Iterator[Server]:
    with Server(tiny_model, "--enable-cache-report", "--max-total-tokens", "4096") as server:
        yield server


@pytest.fixture
def asker(server: Server) -> Asker:
    return Asker(server)


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_a_prefix_serves_everybody(asker: Asker, endpoint: str) -> None:
    prompt = fresh_prompt()
    assert not asker.ask(endpoint, prompt, user_id=fresh_user()).hit
    assert asker.ask(endpoint, prompt, user_id=fresh_user()).hit
    assert asker.ask(endpoint, prompt).hit


IGNORED: list[dict[str, Any]] = [
    {"user_id": 123},
    {"user_id": "a b"},
    {"user_id": ["a", 5, None]},
    {"user_id": []},
    {"user_id": {"a": 1}},
    {"cache_scope": "none"},
    {"cache_scope": 5},
]


@pytest.mark.parametrize("fields", IGNORED, ids=repr)
@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_fields_are_ignored(asker: Asker, endpoint: str, fields: dict[str, Any]) -> None:
    prompt = fresh_prompt()
    asker.ask(endpoint, prompt, **fields)
    assert asker.ask(endpoint, prompt).hit
    assert asker.ask(endpoint, prompt, **fields).hit


def test_fields_of_a_batch_are_ignored(asker: Asker) -> None:
    prompts = [fresh_prompt(), fresh_prompt()]
    asker.generate(text=prompts, user_id=[fresh_user()], cache_scope=["none"] * 3)
    for reply in asker.generate(text=prompts):
        assert reply["meta_info"]["cached_tokens"] >= 149


def test_words(asker: Asker, tiny_model: Path) -> None:
    prompt = fresh_prompt(100)
    for fields in ({}, {"user_id": fresh_user()}):
        reply = asker.generate(text=prompt, **fields)
        assert is_greedy(tiny_model, list(prompt.encode()), reply["output_ids"])


def test_sessions_are_open(asker: Asker) -> None:
    body = {"capacity_of_str_len": 1000, "session_id": "open", "user_id": fresh_user()}
    assert asker.post("/open_session", body).json() == "open"
    params = {"id": "open", "rid": None}
    first = asker.generate(text="hello", session_params=params, user_id=fresh_user())
    params["rid"] = first["meta_info"]["id"]
    second = asker.generate(text="hello", session_params=params, user_id=fresh_user())
    assert second["meta_info"]["prompt_tokens"] > 5
    assert asker.post("/close_session", {"session_id": "open"}).status_code == 200


def test_there_is_no_selftest(asker: Asker) -> None:
    assert asker.post("/tenant/selftest").status_code == 404


def test_the_log_says_nothing_of_it(asker: Asker) -> None:
    assert "Tenant" not in asker.server.log
