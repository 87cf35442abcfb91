"""A long prompt gives way on a real server, also where the scheduler runs ahead of the device.

What was computed when is read from the batches (support/watch.py), so no clock decides.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from support.asks import Asker, sampling
from support.patience import until
from support.prompts import fresh_prompt, fresh_user
from support.server import Server
from support.watch import Watch

pytestmark = pytest.mark.server

STEP = 64
LONG = 1600  # tokens
FLAGS = (
    *("--enable-tenant-cache", "--tenant-mode", "isolated", "--enable-cache-report"),
    *("--chunked-prefill-size", str(STEP), "--max-total-tokens", "8192"),
)
CHECKS = {"SGLANG_ENABLE_STRICT_MEM_CHECK_DURING_BUSY": "1"}
KINDS = {
    "vtc": ("--schedule-policy", "vtc", "--enable-hierarchical-cache", "--hicache-ratio", "2"),
    "dlpm": ("--schedule-policy", "dlpm", "--tenant-dlpm-quantum", "64", "--page-size", "8"),
}


class Scene:
    """A server, and one who reads its batches."""

    def __init__(self, server: Server, watch: Watch, page: int):
        self.asker, self.watch, self.page = Asker(server), watch, page

    def begin(self, pool: ThreadPoolExecutor, **body: Any) -> tuple[str, Future[Any]]:
        """A long prompt of which three steps are done."""
        name = f"long-{secrets.token_hex(4)}"
        body = {"text": fresh_prompt(LONG), "user_id": fresh_user(), "rid": name} | body
        asked = pool.submit(self.asker.generate, **body)
        until(lambda: len(self.computed(name)) >= 3, "it has begun")
        return name, asked

    def ask(self, tokens: int) -> str:
        name = f"short-{secrets.token_hex(4)}"
        # One token: more would be decoded once no prompt is left to compute.
        body = {"text": fresh_prompt(tokens), "sampling_params": sampling(1)}
        self.asker.generate(user_id=fresh_user(), rid=name, **body)
        return name

    def computed(self, name: str) -> dict[int, tuple[int, int]]:
        """Number of the batch -> tokens found, tokens to compute."""
        return {
            number: (found, tokens)
            for number, batch in enumerate(self.watch.batches())
            for rid, found, tokens in batch
            if rid == name
        }


@pytest.fixture(scope="module", params=KINDS)
def scene(
    request: pytest.FixtureRequest, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Scene]:
    policy = str(request.param)
    ahead = policy == "dlpm"
    start = "support.overlap:start" if ahead else "support.watch:start"
    watch = Watch(tmp_path_factory.mktemp("watch"), start)
    with Server(tiny_model, *FLAGS, *KINDS[policy], env=CHECKS | watch.env) as server:
        assert f"disable_overlap_schedule={not ahead}" in server.log
        yield Scene(server, watch, 8 if ahead else 1)


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(8) as pool:
        yield pool


@pytest.mark.parametrize("tokens", [40, 3 * STEP])
def test_it_is_computed_in_between_and_nothing_twice(
    scene: Scene, pool: ThreadPoolExecutor, tokens: int
) -> None:
    name, asked = scene.begin(pool)
    others = [scene.ask(tokens) for _ in range(3)]
    reply = asked.result()
    long = scene.computed(name)
    for other in others:
        batches = scene.computed(other)
        assert min(long) < min(batches) <= max(batches) < max(long)
        assert not set(range(min(batches), max(batches) + 1)) & set(long)
    assert sum(tokens for _, tokens in long.values()) == LONG
    # What it has computed before is its own: not told as found, and not counted again.
    assert reply["meta_info"]["cached_tokens"] == 0
    assert reply["meta_info"]["prompt_tokens"] == LONG


def test_the_answer_is_that_of_a_prompt_computed_at_once(
    scene: Scene, pool: ThreadPoolExecutor
) -> None:
    body = {"text": fresh_prompt(LONG), "sampling_params": sampling(24)}
    name, asked = scene.begin(pool, **body)
    scene.ask(40)
    again = scene.asker.generate(user_id=fresh_user(), **body)
    assert len(scene.computed(name)) > 3
    assert asked.result()["output_ids"] == again["output_ids"]


def test_a_stream_begins_with_its_first_token(scene: Scene, pool: ThreadPoolExecutor) -> None:
    """Chunks whose results come in after it has given way are no part of the answer."""
    name = f"stream-{secrets.token_hex(4)}"
    asked = pool.submit(stream, scene.asker, name)
    until(lambda: len(scene.computed(name)) >= 3, "it has begun")
    for _ in range(3):
        scene.ask(40)
    tokens = [event["meta_info"]["completion_tokens"] for event in asked.result()]
    assert tokens[0] > 0
    assert (tokens, tokens[-1]) == (sorted(set(tokens)), 5)  # some may come together
    assert len(scene.computed(name)) > 3


def stream(asker: Asker, name: str) -> list[dict[str, Any]]:
    body = {
        "text": fresh_prompt(LONG),
        "user_id": fresh_user(),
        "rid": name,
        "stream": True,
        "sampling_params": sampling(5),
    }
    url = asker.server.url + "/generate"
    with httpx.stream("POST", url, json=body, timeout=120) as response:
        lines = [line.removeprefix("data: ") for line in response.iter_lines() if line]
    assert lines.pop() == "[DONE]"
    return [json.loads(line) for line in lines]


def test_who_asks_for_log_probabilities_of_the_prompt_keeps_the_turn(
    scene: Scene, pool: ThreadPoolExecutor
) -> None:
    """They would have to be computed again."""
    name, asked = scene.begin(pool, return_logprob=True, logprob_start_len=0)
    other = scene.ask(40)
    assert len(asked.result()["meta_info"]["input_token_logprobs"]) == LONG
    assert max(scene.computed(name)) <= min(scene.computed(other))


def test_a_preempted_prompt_can_be_aborted(scene: Scene, pool: ThreadPoolExecutor) -> None:
    for _ in range(5):
        name, asked = scene.begin(pool)
        others = [pool.submit(scene.ask, 3 * STEP) for _ in range(4)]
        scene.asker.post("/abort_request", {"rid": name})
        for other in others:
            other.result()
        assert asked.exception() is not None or "abort" in str(asked.result()["meta_info"])
    until(lambda: idle(scene.asker))
    # The strict check of the memory, and the tree's own, would have stopped the server.
    assert scene.asker.generate(text="hello", user_id="alice")["text"]


def idle(asker: Asker) -> bool:
    (load,) = asker.server.http.get("/v1/loads?include=core").json()["loads"]
    return not load["num_running_reqs"] + load["num_waiting_reqs"]


def test_many_of_all_lengths_come_through(scene: Scene, pool: ThreadPoolExecutor) -> None:
    """Ten users; every answer is the one to the same prompt alone."""
    prompts = [fresh_prompt(tokens) for tokens in (30, 200, 700, 1500) for _ in range(4)]
    users = [fresh_user() for _ in range(10)]

    def ask(number: int) -> Any:
        body = {"text": prompts[number], "sampling_params": sampling(12)}
        return scene.asker.generate(user_id=users[number % 10], **body)["output_ids"]

    together = list(pool.map(ask, range(len(prompts))))
    assert together == [ask(number) for number in range(len(prompts))]
