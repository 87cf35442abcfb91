"""The paths a request takes through a busy engine: each keeps its user, and its words.

Replies are compared with the same model run by transformers. The pool is small, so that
prefixes are evicted to the host, and running requests are retracted.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from support.asks import MODEL, Asker, sampling
from support.prompts import fresh_prompt, fresh_user
from support.reference import is_greedy
from support.server import Server

pytestmark = pytest.mark.server

POOL = 1024  # tokens
CHUNK = 64
ADMIN_KEY = secrets.token_hex(12)
FLAGS = (
    *("--enable-tenant-cache", "--tenant-mode", "isolated", "--enable-cache-report"),
    *("--enable-hierarchical-cache", "--hicache-ratio", "8"),
    *("--max-total-tokens", str(POOL), "--chunked-prefill-size", str(CHUNK)),
    *("--page-size", "16"),
    # Admit more requests than the pool can carry to their ends.
    *("--schedule-conservativeness", "0.1"),
    *("--admin-api-key", ADMIN_KEY),
)
# Any slot that is in no place, or in two, stops the server.
CHECKS = {"SGLANG_ENABLE_STRICT_MEM_CHECK_DURING_BUSY": "1"}


@pytest.fixture(scope="module")
def server(tiny_model: Path) -> Iterator[Server]:
    with Server(tiny_model, *FLAGS, env=CHECKS) as server:
        yield server


@pytest.fixture
def asker(server: Server) -> Asker:
    return Asker(server, ADMIN_KEY)


@pytest.fixture
def said_right(tiny_model: Path) -> Callable[[str, dict[str, Any]], bool]:
    """Whether a reply of /generate is what the model says to that prompt."""
    return lambda prompt, reply: is_greedy(tiny_model, list(prompt.encode()), reply["output_ids"])


def cached(reply: dict[str, Any]) -> int:
    return int(reply["meta_info"]["cached_tokens"])


def used_tokens(asker: Asker) -> int:
    answer = asker.server.http.get("/v1/loads", headers=asker.all_headers)
    return int(answer.json()["loads"][0]["num_used_tokens"])


def test_chunked_prefill(asker: Asker, said_right: Any) -> None:
    prompt, alice, bob = fresh_prompt(600), fresh_user(), fresh_user()
    chunks = re.compile(rf"Prefill batch.*#new-token: {CHUNK},")
    before = len(chunks.findall(asker.server.log))
    replies = [asker.generate(text=prompt, user_id=user) for user in (alice, bob, alice)]
    assert [cached(reply) for reply in replies[:2]] == [0, 0]
    assert cached(replies[2]) >= 580
    assert all(said_right(prompt, reply) for reply in replies)
    assert len(chunks.findall(asker.server.log)) >= before + 2 * (600 // CHUNK)


def test_chunked_prefill_with_scope_none(asker: Asker, said_right: Any) -> None:
    prompt, tail, alice = fresh_prompt(200), fresh_prompt(400), fresh_user()
    asker.generate(text=prompt, user_id=alice)
    unkept = asker.generate(text=prompt + tail, user_id=alice, cache_scope="none")
    assert cached(unkept) >= 180
    kept = asker.generate(text=prompt + tail, user_id=alice)
    assert cached(kept) <= 204  # its own reply began there, perhaps with the same letters
    assert said_right(prompt + tail, unkept)
    assert said_right(prompt + tail, kept)


def test_scope_none_gives_its_slots_back(asker: Asker, said_right: Any) -> None:
    asker.empty_cache()
    prompts = [fresh_prompt(333) for _ in range(8)]
    users = [fresh_user() if n % 2 else None for n in range(8)]
    replies = asker.generate(text=prompts, user_id=users, cache_scope="none")
    assert all(said_right(*pair) for pair in zip(prompts, replies, strict=True))
    # Nothing was kept, so nothing has to be flushed.
    assert used_tokens(asker) == 0


def test_eviction_to_host_and_back(asker: Asker, said_right: Any) -> None:
    asker.empty_cache()
    prompt, alice, bob = fresh_prompt(500), fresh_user(), fresh_user()
    before = asker.generate(text=prompt, user_id=alice)
    for _ in range(2 * POOL // 400):
        asker.generate(text=fresh_prompt(400), user_id=fresh_user())
    # The stranger first: what lies on the host is no more his than on the device.
    assert cached(asker.generate(text=prompt, user_id=bob)) == 0
    back = asker.generate(text=prompt, user_id=alice)
    assert back["meta_info"]["cached_tokens_details"]["host"] >= 400
    assert before["output_ids"] == back["output_ids"]
    assert said_right(prompt, back)
    for other in (fresh_user(), None):
        assert cached(asker.generate(text=prompt, user_id=other)) == 0


def test_retraction(asker: Asker, said_right: Any) -> None:
    asker.empty_cache()
    before = asker.server.log.count("KV cache pool is full. Retract requests.")
    prompts, users = [fresh_prompt(40) for _ in range(10)], [fresh_user() for _ in range(10)]
    replies = asker.generate(text=prompts, user_id=users, sampling_params=sampling(140))
    assert asker.server.log.count("KV cache pool is full. Retract requests.") > before
    assert all(said_right(*pair) for pair in zip(prompts, replies, strict=True))
    for prompt, reply, owner in zip(prompts, replies, users, strict=True):
        whole = prompt + reply["text"]
        assert cached(asker.generate(text=whole, user_id=fresh_user())) == 0
        assert cached(asker.generate(text=whole, user_id=owner)) >= 160


def test_a_broken_stream(asker: Asker, said_right: Any) -> None:
    asker.empty_cache()
    prompt, alice = fresh_prompt(300), fresh_user()
    for scope in ("private", "none"):
        with asker.openai.completions.create(
            model=MODEL,
            prompt=prompt,
            max_tokens=1000,
            stream=True,
            extra_body={"user_id": alice, "cache_scope": scope, "ignore_eos": True},
        ) as stream:
            next(iter(stream))
    asker.empty_cache()
    assert used_tokens(asker) == 0
    again = asker.generate(text=prompt, user_id=alice)
    assert said_right(prompt, again)
    assert cached(asker.generate(text=prompt, user_id=fresh_user())) == 0
    assert cached(asker.generate(text=prompt, user_id=alice)) >= 280


def test_a_hundred_at_once(asker: Asker, said_right: Any) -> None:
    common = [fresh_prompt(90) for _ in range(3)]
    asked = [
        (user, prompt)
        for user in [fresh_user() for _ in range(20)]
        for prompt in [*common, fresh_prompt(70), fresh_prompt(70)]
    ]

    def ask(question: tuple[str, str]) -> Any:
        return asker.generate(text=question[1], user_id=question[0])

    with ThreadPoolExecutor(len(asked)) as pool:
        replies = list(pool.map(ask, asked))
    # Nobody asks twice, so a hit is somebody else's.
    assert [cached(reply) for reply in replies] == [0] * len(asked)
    for (_, prompt), reply in zip(asked, replies, strict=True):
        assert said_right(prompt, reply)
