"""``--tenant-mode isolated``: a prefix serves its owner, at every endpoint, and nobody else."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from openai import BadRequestError, NotFoundError
from support.asks import ENDPOINTS, MODEL, Asker, http, sampling
from support.prompts import fresh_prompt, fresh_user
from support.server import Server

pytestmark = pytest.mark.server

ISOLATED = ("--enable-tenant-cache", "--tenant-mode", "isolated", "--enable-cache-report")
SERVERS = {
    "hierarchical": (
        *ISOLATED,
        *("--enable-hierarchical-cache", "--hicache-ratio", "4"),
        *("--chunked-prefill-size", "64"),
    ),
    "device": (
        *(*ISOLATED, "--page-size", "16"),
        *("--tenant-anonymous", "share", "--tenant-header", "X-Demo-User"),
    ),
}
ANONYMOUS_IS_ONE_USER = {"hierarchical": False, "device": True}
HEADER = "X-Demo-User"
HAS_HEADER = {"hierarchical": False, "device": True}


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
def test_a_prefix_serves_its_owner_alone(asker: Asker, endpoint: str) -> None:
    prompt, alice, bob = fresh_prompt(), fresh_user(), fresh_user()
    assert asker.ask(endpoint, prompt, user_id=alice).cached == 0
    assert asker.ask(endpoint, prompt, user_id=bob).cached == 0
    assert asker.ask(endpoint, prompt, user_id=alice).hit


def test_a_longer_prompt_of_another_user_reads_nothing(asker: Asker) -> None:
    prompt = fresh_prompt()
    asker.ask("generate", prompt, user_id=fresh_user())
    assert asker.ask("generate", prompt + fresh_prompt(40), user_id=fresh_user()).cached == 0


def test_doors_lead_to_the_same_user(asker: Asker) -> None:
    prompt, alice = fresh_prompt(), fresh_user()
    asker.ask("completions streaming", prompt, user_id=alice)
    assert asker.ask("generate", prompt, user_id=alice).hit


def test_the_header_names_the_user_where_it_is_set(server: Server, kind: str) -> None:
    prompt, in_header, in_body = fresh_prompt(), fresh_user(), fresh_user()
    asker = Asker(server)
    Asker(server, headers={HEADER: in_header}).ask("chat", prompt, user_id=in_body)
    named = {True: in_header, False: in_body}
    assert asker.ask("chat", prompt, user_id=named[HAS_HEADER[kind]]).hit
    assert asker.ask("chat", prompt, user_id=named[not HAS_HEADER[kind]]).cached == 0


def test_the_log_warns_of_identities_that_anybody_can_claim(server: Server, kind: str) -> None:
    warned = "Tenant identities come only from request bodies" in server.log
    assert warned != HAS_HEADER[kind]


def test_the_start_warns_of_nothing_deprecated(server: Server) -> None:
    log = server.log.lower()
    assert "server_args=" in log
    for word in ("deprecat", "still supported", "will be removed"):
        assert word not in log


def test_anthropics_messages(asker: Asker) -> None:
    def cached(prompt: str, user: str) -> int:
        messages = [{"role": "user", "content": prompt}]
        body = {"model": MODEL, "max_tokens": 4, "messages": messages, "user_id": user}
        usage = asker.post("/v1/messages", body).json()["usage"]
        return int(usage.get("cache_read_input_tokens") or 0)

    prompt, alice = fresh_prompt(), fresh_user()
    assert [cached(prompt, user) for user in (alice, fresh_user())] == [0, 0]
    assert cached(prompt, alice) >= 128


def test_a_salt_divides_a_user_and_joins_none(asker: Asker) -> None:
    prompt, alice, bob = fresh_prompt(), fresh_user(), fresh_user()
    asker.ask("generate", prompt, user_id=alice, extra_key="salt")
    assert asker.ask("generate", prompt, user_id=alice).cached == 0
    assert asker.ask("generate", prompt, user_id=alice, extra_key="salt").hit
    assert asker.ask("generate", prompt, user_id=bob, extra_key="salt").cached == 0


def test_a_salt_and_a_key_are_not_one_word(asker: Asker) -> None:
    prompt, alice = fresh_prompt(), fresh_user()
    for salt, key in (("a", "bc"), ("ab", "c"), ("abc", "")):
        for endpoint, hit in (("chat", False), ("completions", False), ("chat", True)):
            asked = asker.ask(endpoint, prompt, user_id=alice, cache_salt=salt, extra_key=key)
            assert asked.hit is hit


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_a_list_of_keys_for_one_prompt_is_refused(asker: Asker, endpoint: str) -> None:
    if endpoint.startswith("generate"):
        body = {"text": "x", "stream": endpoint.endswith("streaming"), "extra_key": ["a"]}
        assert "extra_key: 1 values for one prompt" in asker.post("/generate", body).text
        return
    for field in ("cache_salt", "extra_key"):
        with pytest.raises(BadRequestError, match=field):
            asker.ask(endpoint, "x", user_id=fresh_user(), **{field: ["a"]})


def cached_each(asker: Asker, prompts: list[str], **body: Any) -> list[int]:
    return [reply["meta_info"]["cached_tokens"] for reply in asker.generate(text=prompts, **body)]


def test_a_batch_of_one_user(asker: Asker) -> None:
    prompts, alice = [fresh_prompt(), fresh_prompt()], fresh_user()
    assert cached_each(asker, prompts, user_id=alice) == [0, 0]
    assert cached_each(asker, prompts, user_id=fresh_user()) == [0, 0]
    assert all(cached_each(asker, prompts, user_id=alice))


def test_a_batch_of_several_users(asker: Asker) -> None:
    prompt, users = fresh_prompt(), [fresh_user(), fresh_user(), fresh_user()]
    asker.ask("generate", prompt, user_id=users[1])
    first, second, third = cached_each(asker, [prompt] * 3, user_id=users)
    assert (first, third) == (0, 0)
    assert second >= 128
    assert all(cached_each(asker, [prompt] * 3, user_id=users))


def test_a_batch_of_several_users_through_completions(asker: Asker) -> None:
    prompts, users = [fresh_prompt(), fresh_prompt()], [fresh_user(), fresh_user()]
    completions = asker.openai.completions
    completions.create(model=MODEL, prompt=prompts, max_tokens=2, extra_body={"user_id": users})
    for prompt, owner, other in zip(prompts, users, users[::-1], strict=True):
        assert not asker.ask("completions", prompt, user_id=other).hit
        assert asker.ask("completions", prompt, user_id=owner).hit


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_a_list_of_one_user_is_that_user(asker: Asker, endpoint: str) -> None:
    prompt, alice = fresh_prompt(), fresh_user()
    asker.ask(endpoint, prompt, user_id=[alice])
    assert asker.ask(endpoint, prompt, user_id=fresh_user()).cached == 0
    assert asker.ask(endpoint, prompt, user_id=alice).hit


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_a_list_of_the_wrong_length_is_refused(asker: Asker, endpoint: str) -> None:
    body = {"user_id": [fresh_user(), fresh_user()]}
    if endpoint.startswith("generate"):
        stream = endpoint.endswith("streaming")
        response = asker.post("/generate", {"text": "x", "stream": stream, **body})
        assert response.status_code == 400
        assert response.json()["error"]["param"] == "user_id"
        return
    with pytest.raises(BadRequestError, match="user_id: 2 users for 1 prompts"):
        asker.ask(endpoint, "x", **body)


def test_every_sample_belongs_to_its_user(asker: Asker) -> None:
    prompts, users = [fresh_prompt(), fresh_prompt()], [fresh_user(), fresh_user()]
    replies = asker.generate(text=prompts, user_id=users, sampling_params={**sampling(), "n": 3})
    assert len(replies) == 6
    for prompt, owner, other in zip(prompts, users, users[::-1], strict=True):
        assert not asker.ask("generate", prompt, user_id=other).hit
        assert asker.ask("generate", prompt, user_id=owner).hit


def test_samples_through_completions(asker: Asker) -> None:
    prompt, alice = fresh_prompt(), fresh_user()
    reply = asker.openai.completions.create(
        model=MODEL, prompt=prompt, max_tokens=2, n=3, extra_body={"user_id": alice}
    )
    assert len(reply.choices) == 3
    assert asker.ask("completions", prompt, user_id=fresh_user()).cached == 0
    assert asker.ask("completions", prompt, user_id=alice).hit


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_scope_none_leaves_nothing(asker: Asker, endpoint: str) -> None:
    prompt, alice = fresh_prompt(200), fresh_user()
    for _ in range(2):
        assert asker.ask(endpoint, prompt, user_id=alice, cache_scope="none").cached == 0
    assert asker.ask(endpoint, prompt, user_id=alice).cached == 0


def test_scope_none_reads_what_its_user_kept(asker: Asker) -> None:
    prompt, tail, alice = fresh_prompt(), fresh_prompt(200), fresh_user()
    kept = asker.ask("generate", prompt, user_id=alice)
    longer = asker.ask("generate", prompt + tail, user_id=alice, cache_scope="none")
    assert longer.cached >= kept.prompt_tokens - 16
    after = asker.ask("generate", prompt + tail, user_id=alice)
    # Its own reply began where the tail does, perhaps with the same letters.
    assert after.cached <= kept.prompt_tokens + 4


def test_scope_private_is_kept(asker: Asker) -> None:
    prompt, alice = fresh_prompt(), fresh_user()
    asker.ask("generate", prompt, user_id=alice, cache_scope="private")
    assert asker.ask("generate", prompt, user_id=alice).hit


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_anonymous(asker: Asker, kind: str, endpoint: str) -> None:
    prompt = fresh_prompt()
    asker.ask(endpoint, prompt)
    assert asker.ask(endpoint, prompt, user_id=fresh_user()).cached == 0
    again = asker.ask(endpoint, prompt)
    if ANONYMOUS_IS_ONE_USER[kind]:
        assert again.hit
    else:
        assert again.cached == 0


def test_anonymous_among_named_users(asker: Asker) -> None:
    prompt, alice = fresh_prompt(), fresh_user()
    asker.generate(text=[prompt, prompt], user_id=[alice, None])
    assert asker.ask("generate", prompt, user_id=fresh_user()).cached == 0
    assert asker.ask("generate", prompt, user_id=alice).hit


def open_session(asker: Asker, user: str, name: str | None = None) -> Any:
    body = {"capacity_of_str_len": 10_000, "session_id": name, "user_id": user}
    response = asker.post("/open_session", body)
    return response.json() if response.status_code == 200 else None


def turn(asker: Asker, user: Any, session: str, text: str, after: str | None = None) -> Any:
    """One turn of a conversation, or the error that the server answers with."""
    params = {"id": session, "rid": after}
    body = {"text": text, "user_id": user, "session_params": params, "sampling_params": sampling()}
    return asker.post("/generate", body).json()


def test_a_session_goes_on_with_its_user(asker: Asker) -> None:
    alice, text = fresh_user(), fresh_prompt()
    session = open_session(asker, alice)
    first = turn(asker, alice, session, text)
    assert first["meta_info"]["cached_tokens"] == 0
    second = turn(asker, alice, session, "and more", first["meta_info"]["id"])
    assert second["meta_info"]["prompt_tokens"] > len(text)
    assert second["meta_info"]["cached_tokens"] >= len(text) - 16
    whole = text + first["text"] + "and more"
    assert asker.ask("generate", whole, user_id=fresh_user()).cached == 0
    assert asker.ask("generate", whole, user_id=alice).cached >= len(text) - 16


def test_a_session_is_closed_to_others(asker: Asker) -> None:
    alice, bob = fresh_user(), fresh_user()
    session = open_session(asker, alice)
    first = turn(asker, alice, session, fresh_prompt())
    assert "error" in turn(asker, bob, session, "and more", first["meta_info"]["id"])
    assert "error" in turn(asker, [bob], session, "and more", first["meta_info"]["id"])
    asker.post("/close_session", {"session_id": session, "user_id": bob})
    again = turn(asker, alice, session, "and more", first["meta_info"]["id"])
    assert "error" not in again
    asker.post("/close_session", {"session_id": session, "user_id": alice})
    assert "error" in turn(asker, alice, session, "and more", again["meta_info"]["id"])


def test_two_users_sessions_of_one_name_are_two(asker: Asker) -> None:
    alice, bob, name = fresh_user(), fresh_user(), fresh_user("session")
    assert open_session(asker, alice, name) == name
    assert open_session(asker, alice, name) is None
    assert open_session(asker, bob, name) == name
    secret = turn(asker, alice, name, fresh_prompt())
    assert "error" in turn(asker, bob, name, "more", secret["meta_info"]["id"])
    assert turn(asker, bob, name, "hello")["meta_info"]["prompt_tokens"] == len("hello")


def test_a_session_of_a_list_of_one_user_is_that_users(asker: Asker) -> None:
    alice = fresh_user()
    session = open_session(asker, alice)
    first = turn(asker, [alice], session, fresh_prompt())
    assert "error" not in turn(asker, alice, session, "more", first["meta_info"]["id"])


def test_a_stored_response_is_found_by_its_user_alone(asker: Asker) -> None:
    alice, bob = fresh_user(), fresh_user()
    responses = asker.openai.responses

    def create(user: Any, **more: Any) -> Any:
        return responses.create(
            model=MODEL,
            input=fresh_prompt(),
            max_output_tokens=4,
            extra_body={"user_id": user},
            **more,
        )

    for owner in (alice, [alice]):
        stored = create(owner).id
        for other in (bob, None):
            with pytest.raises(NotFoundError):
                create(other, previous_response_id=stored)
            with pytest.raises(NotFoundError):
                responses.retrieve(stored, extra_query={"user_id": other} if other else None)
            with pytest.raises(NotFoundError):
                responses.cancel(stored, extra_body={"user_id": other} if other else None)
        assert create(alice, previous_response_id=stored).previous_response_id == stored
        assert responses.retrieve(stored, extra_query={"user_id": alice}).id == stored


def test_the_log_names_nobody(asker: Asker) -> None:
    prompt, alice = fresh_prompt(), fresh_user()
    for endpoint in ENDPOINTS:
        asker.ask(endpoint, prompt, user_id=alice)
    open_session(asker, alice)
    http.get(f"{asker.server.url}/v1/responses/none", params={"user_id": alice})
    asker.post("/generate", {"text": prompt, "user_id": [alice, alice]})
    asker.post("/generate", {"text": prompt, "user_id": alice + "!"})
    log = asker.server.log
    assert "POST /generate" in log
    assert alice not in log
    # A query is printed with escapes: look for what needs none.
    assert alice.partition("_")[0] not in log
    assert prompt not in log
