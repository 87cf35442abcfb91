"""``--tenant-mode shared``: every prefix serves everybody, who must still say who they are."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from openai import AuthenticationError, NotFoundError
from support.asks import ENDPOINTS, MODEL, Asker
from support.prompts import fresh_prompt, fresh_user
from support.server import Server

pytestmark = pytest.mark.server

SHARED = ("--enable-tenant-cache", "--tenant-mode", "shared", "--enable-cache-report")
SERVERS = {
    "hierarchical": (*SHARED, "--enable-hierarchical-cache", "--max-total-tokens", "4096"),
    "device": (*SHARED, "--page-size", "16", "--tenant-anonymous", "reject"),
}
ANONYMOUS_IS_SERVED = {"hierarchical": True, "device": False}


@pytest.fixture(scope="module", params=SERVERS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def server(kind: str, tiny_model: Path) -> Iterator[Server]:
    with Server(tiny_model, *SERVERS[kind]) as server:
        yield server


@pytest.fixture
def asker(server: Server) -> Asker:
    return Asker(server)


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_a_prefix_serves_everybody(asker: Asker, endpoint: str) -> None:
    prompt = fresh_prompt()
    assert not asker.ask(endpoint, prompt, user_id=fresh_user()).hit
    assert asker.ask(endpoint, prompt, user_id=fresh_user()).hit


def test_scope_none_is_shared_with_nobody(asker: Asker) -> None:
    prompt = fresh_prompt()
    asker.ask("chat", prompt, user_id=fresh_user(), cache_scope="none")
    assert not asker.ask("chat", prompt, user_id=fresh_user()).hit


def test_a_batch_is_shared(asker: Asker) -> None:
    prompts = [fresh_prompt(), fresh_prompt()]
    asker.generate(text=prompts, user_id=[fresh_user(), fresh_user()])
    for prompt in prompts:
        assert asker.ask("generate", prompt, user_id=fresh_user()).hit


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_anonymous(asker: Asker, kind: str, endpoint: str) -> None:
    prompt = fresh_prompt()
    asker.ask(endpoint, prompt, user_id=fresh_user())
    if ANONYMOUS_IS_SERVED[kind]:
        assert asker.ask(endpoint, prompt).hit
        return
    if endpoint.startswith("generate"):
        assert asker.post("/generate", {"text": prompt}).status_code == 401
        return
    with pytest.raises(AuthenticationError, match="user_id"):
        asker.ask(endpoint, prompt)


def test_stored_responses_are_not_shared(asker: Asker) -> None:
    def create(user: str, **more: Any) -> Any:
        return asker.openai.responses.create(
            model=MODEL, input="x", max_output_tokens=4, extra_body={"user_id": user}, **more
        )

    stored = create(fresh_user()).id
    with pytest.raises(NotFoundError):
        create(fresh_user(), previous_response_id=stored)
