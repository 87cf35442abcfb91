"""A prompt that no pool has room for is refused, and never stands in the way of others."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from support import plugin
from support.asks import Asker
from support.prompts import fresh_prompt, fresh_user
from support.server import Server

pytestmark = pytest.mark.server

POOL = 2048
FLAGS = ("--enable-tenant-cache", "--max-total-tokens", str(POOL), "--context-length", "8192")
LONGER = {"SGLANG_ALLOW_OVERWRITE_LONGER_CONTEXT_LEN": "1"}


def ask(server: Server, tokens: int, **options: object) -> httpx.Response:
    body = {"text": fresh_prompt(tokens), "user_id": fresh_user()}
    return Asker(server).post("/generate", body | {"sampling_params": options})


def check_others_are_served(server: Server) -> None:
    assert ask(server, 20, max_new_tokens=1).status_code == 200


@pytest.fixture(
    scope="module",
    params=[
        (1,),
        (16, "--enable-hierarchical-cache"),
        (16, "--schedule-policy", "vtc"),
        (128, "--schedule-policy", "lpm", "--chunked-prefill-size", "512"),
    ],
    ids=lambda each: f"pages of {each[0]} {' '.join(each[1:])}",
)
def served(request: pytest.FixtureRequest, tiny_model: Path) -> Iterator[tuple[Server, int]]:
    page, *flags = request.param
    with Server(tiny_model, *FLAGS, "--page-size", str(page), *flags, env=LONGER) as server:
        yield server, page


def test_every_length_is_served_or_refused(served: tuple[Server, int]) -> None:
    server, page = served
    longest = POOL - max(page + 2, 7)
    lengths = {longest - page, longest - 1, longest, longest + 1, POOL - page, POOL - page + 1}
    for tokens in sorted(lengths | {POOL - 7, POOL - 6, POOL - 1, POOL, POOL + 1}):
        for wanted in (1, 64):
            answer = ask(server, tokens, max_new_tokens=wanted)
            assert answer.status_code == (200 if tokens <= longest else 400), (tokens, answer.text)
            if tokens > longest:
                assert f"the maximum allowed length ({longest + 1} tokens)" in answer.text
            check_others_are_served(server)


def test_what_is_put_off_for_ever_goes_with_its_client(tiny_model: Path, tmp_path: Path) -> None:
    """Whatever it is: here a prompt that is not refused, as with upstream's own bound."""
    env = {**LONGER, "PYTHONPATH": plugin.install(tmp_path, "support.unbounded:start")}
    with Server(tiny_model, *FLAGS, "--page-size", "16", env=env) as server:
        with httpx.Client(base_url=server.url, timeout=3.0) as client:
            body = {"text": fresh_prompt(POOL - 10), "user_id": "mallory"}
            with pytest.raises(httpx.ReadTimeout):
                client.post("/generate", json=body)
        check_others_are_served(server)
