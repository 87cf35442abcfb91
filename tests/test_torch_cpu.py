"""The CPU platform under real servers; ranks and replicas are in test_several_processes."""

from __future__ import annotations

import re
import string
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.server import Server

pytestmark = pytest.mark.server

GIB = 1 << 30
POOL_TOKENS = 2_048

# Each fills half the device pool, so that they push one another out of it.
PROMPTS = [f"{number} {word} " * 160 for number, word in enumerate(("ant", "bee", "cat", "dog"))]
HICACHE = (
    "--enable-hierarchical-cache",
    "--enable-cache-report",
    "--hicache-ratio",
    "8",
    "--max-total-tokens",
    str(POOL_TOKENS),
)


@pytest.fixture(scope="module")
def plain_server(tiny_model: Path) -> Iterator[Server]:
    """Run a server that was told nothing but its model.

    In interpreters of its own, as users start it: forks share memory that would be counted twice.
    """
    with Server(tiny_model, env={"PYTHONHASHSEED": "random"}) as server:
        yield server


def test_model_path_alone_is_enough(plain_server: Server) -> None:
    chat = plain_server.openai().chat.completions.create(
        model="any",
        messages=[{"role": "user", "content": "Hello"}],
        max_tokens=20,
        temperature=0,
    )
    reply = chat.choices[0].message.content
    assert reply
    assert set(reply) <= set(string.printable)
    assert plain_server.rss() < 3 * GIB


def test_structured_output_is_served(plain_server: Server) -> None:
    sampling = {"temperature": 0, "max_new_tokens": 12, "regex": "[0-9]{8}"}
    answer = plain_server.generate("Hello", sampling_params=sampling)
    assert re.fullmatch("[0-9]{8}", answer["text"])


@pytest.mark.parametrize(
    "flags",
    [
        (),
        ("--page-size", "16", "--hicache-mem-layout", "page_first_direct"),
    ],
    ids=["layer first", "pages first"],
)
def test_host_tier_gives_back_what_the_device_evicted(
    tiny_model: Path, flags: tuple[str, ...]
) -> None:
    with Server(tiny_model, *HICACHE, *flags) as server:
        fresh = [server.generate(prompt) for prompt in PROMPTS]
        again = [server.generate(prompt) for prompt in PROMPTS]
    assert [answer["text"] for answer in again] == [answer["text"] for answer in fresh]
    # Distinct answers: what a wrong prefix would say is not what a right one does.
    assert len({answer["text"] for answer in fresh}) == len(PROMPTS)
    for answer in again:
        details = answer["meta_info"]["cached_tokens_details"]
        assert details["host"] > 0.9 * answer["meta_info"]["prompt_tokens"]
