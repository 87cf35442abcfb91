"""The workloads of benchmarks/sharing.py, and what selective mode keeps of upstream's sharing.

What is asserted are counts of cached tokens, never times: those are for a quiet machine.
"""

from __future__ import annotations

import asyncio
import itertools
import json
from collections import Counter
from collections.abc import Iterator
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path
from typing import Any

import pytest
from serving.client import Client
from serving.server import SELECTIVE, UPSTREAM, Model, running
from sharing_cost.methods import SALTED, SELECTED, SHARED_BY_ALL
from sharing_cost.passes import COLD, WARM, compare
from sharing_cost.sharing_targets import ratio
from workloads.made_up import SHARING, WORKLOADS, make
from workloads.request import PASSES, Request, Size, in_passes
from workloads.traces import TraceError, mooncake, read, sharegpt

SMALL = Size(requests=36, users=60, rate=30.0, scale=0.25)


@pytest.mark.parametrize("name", WORKLOADS)
def test_a_workload_is_the_same_each_time(name: str) -> None:
    assert make(name, SMALL, 1) == make(name, SMALL, 1)
    assert make(name, SMALL, 1) != make(name, SMALL, 2)


@pytest.mark.parametrize("name", WORKLOADS)
def test_users_share_what_the_workload_says(name: str) -> None:
    requests = make(name, SMALL, 1)
    openings: dict[tuple[int, ...], set[str]] = {}
    for request in requests:
        openings.setdefault(tuple(request.prompt[:64]), set()).add(request.user)
    shared = any(len(users) > 2 for users in openings.values())
    assert shared == (name in SHARING)


def test_a_few_users_ask_most() -> None:
    size = Size(requests=400, users=50)
    asked = Counter(request.user for request in make("few-shot", size, 1))
    assert asked["user-0"] > 10 * asked["user-49"]
    span = make("few-shot", size, 1)[-1].at
    assert span == pytest.approx(PASSES * size.requests / size.rate, rel=0.2)


def test_each_pass_begins_at_its_own_start() -> None:
    passes = in_passes(make("documents", SMALL, 1))
    assert [len(part) for part in passes] == [SMALL.requests] * PASSES
    for part in passes:
        assert part[0].at == 0
        assert all(a.at <= b.at for a, b in itertools.pairwise(part))


def mooncake_file(folder: Path, rows: list[dict[str, Any]]) -> Path:
    path = folder / "trace.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows) + "\n")
    return path


def test_mooncakes_hashes_become_tokens_and_users(tmp_path: Path) -> None:
    path = mooncake_file(
        tmp_path,
        [
            {"timestamp": 0, "input_length": 1_100, "output_length": 5, "hash_ids": [0, 1, 2]},
            {"timestamp": 500, "input_length": 1_030, "output_length": 5, "hash_ids": [0, 7, 8]},
            {
                "timestamp": 3_000,
                "input_length": 1_600,
                "output_length": 9,
                "hash_ids": [0, 1, 2, 3],
            },
        ],
    )
    first, other, later = mooncake(path, Size(requests=1, users=10_000, rate=1.0), 1)
    assert (len(first.prompt), len(other.prompt), len(later.prompt)) == (1_100, 1_030, 1_600)
    assert list(later.prompt[:1_100]) == list(first.prompt)
    assert list(other.prompt[:512]) == list(first.prompt[:512])
    assert list(other.prompt[512:1_000]) != list(first.prompt[512:1_000])
    assert later.user == first.user != other.user
    assert [request.at for request in (first, other, later)] == [0, 0.5, 3.0]


def test_sharegpts_turns_go_on_from_each_other(tmp_path: Path) -> None:
    talk = [
        {"from": "human", "value": "Hello"},
        {"from": "gpt", "value": "Good day."},
        {"from": "human", "value": "Grüße"},
    ]
    path = tmp_path / "sharegpt.json"
    path.write_text(json.dumps([{"id": str(n), "conversations": talk} for n in range(4)]))
    requests = sharegpt(path, Size(requests=2, users=1_000), 1)
    assert len(requests) == 2 * PASSES
    prompts: dict[str, list[bytes]] = {}
    for request in requests:
        prompts.setdefault(request.user, []).append(bytes(request.prompt))
    whole = [said for said in prompts.values() if len(said) == 2]
    assert whole
    assert all(said == [b"Hello", "HelloGood day.Grüße".encode()] for said in whole)


@pytest.mark.parametrize(
    ("kind", "content", "message"),
    [
        ("mooncake", '{"timestamp": 0}\n', "line 1: no Mooncake request"),
        ("mooncake", "", "0 requests, 3 wanted"),
        ("sharegpt", "[", "not JSON"),
        ("sharegpt", '[{"conversation": []}]', "entry 0: no conversation"),
        ("arena", "", "arena is unknown; give mooncake or sharegpt"),
    ],
)
def test_a_file_that_is_no_trace_is_named(
    tmp_path: Path, kind: str, content: str, message: str
) -> None:
    path = tmp_path / "trace"
    path.write_text(content)
    with pytest.raises(TraceError, match=message) as error:
        read(kind, path, Size(requests=1), 1)
    assert str(path) in str(error.value)


def test_the_ratio_of_times_compares_request_by_request() -> None:
    slower, low, high = ratio([2.0, 20.0, 200.0], [1.0, 10.0, 100.0])
    assert slower == low == high == pytest.approx(2)


Results = dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Results]]:
    """Upstream, with and without salts, and selective mode, on two workloads."""
    model = Model(tmp_path_factory.mktemp("model") / "tiny", "tiny")
    loads = {name: make(name, SMALL, 1) for name in ("documents", "private chat")}
    with ExitStack() as servers:
        urls = {
            mode.name: servers.enter_context(running(model, mode, ("--enable-hierarchical-cache",)))
            for mode in (UPSTREAM, SELECTIVE)
        }
        yield asyncio.run(compare_all(urls, loads))


async def compare_all(urls: dict[str, str], loads: dict[str, list[Request]]) -> dict[str, Results]:
    async with AsyncExitStack() as stack:
        clients = {name: await stack.enter_async_context(Client(url)) for name, url in urls.items()}
        rounds = ((SHARED_BY_ALL, SELECTED), (SALTED,))
        return {name: await compare(clients, load, rounds=rounds) for name, load in loads.items()}


@pytest.mark.server
def test_what_is_shared_is_kept_once_it_is_public(compared: dict[str, Results]) -> None:
    documents = compared["documents"]
    upstream, ours, salted = (
        documents[method.name][WARM]["cached_tokens"]
        for method in (SHARED_BY_ALL, SELECTED, SALTED)
    )
    assert ours >= 0.95 * upstream
    assert ours >= 1.5 * salted


@pytest.mark.server
def test_becoming_public_takes_some_users(compared: dict[str, Results]) -> None:
    upstream, ours = (
        compared["documents"][method.name][COLD]["cached_tokens"]
        for method in (SHARED_BY_ALL, SELECTED)
    )
    assert 0 < ours < upstream


@pytest.mark.server
def test_private_chat_loses_nothing(compared: dict[str, Results]) -> None:
    upstream, ours = (
        compared["private chat"][method.name][WARM]["cached_tokens"]
        for method in (SHARED_BY_ALL, SELECTED)
    )
    # Turns that come before the last one is served find less, in either mode.
    assert ours == pytest.approx(upstream, rel=0.1)
    assert ours > 0
