"""Selective mode says the right words: KV that changed hands is still the KV of its tokens.

Every reply is compared with the same model run by transformers, whatever it was computed from:
device or host, a merged copy, a prefix that became public, or private, under a running request.
What many users were told at once is also compared, token by token, with a server without a cache.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from support.asks import Asker, sampling
from support.patience import until
from support.prompts import fresh_prompt, fresh_user
from support.reference import is_greedy, is_same
from support.server import Server
from support.sharing import check_sharing, publish
from support.storm import Exchange, storm
from support.watch import Watch

pytestmark = pytest.mark.server

POOL = 2048  # tokens
LONG = 500
FLAGS = (
    *("--enable-tenant-cache", "--tenant-mode", "selective", "--enable-cache-report"),
    *("--tenant-detector", "off-trust-all", "--tenant-public-users", "3"),
    *("--tenant-epoch-requests", "40", "--tenant-quarantine-epochs", "1"),
    # Low: a prefix that twelve users share is soon taken for a probe's target.
    *("--tenant-rdr-threshold", "0.7", "--tenant-rdr-min-hits", "12"),
    *("--enable-hierarchical-cache", "--hicache-ratio", "3", "--page-size", "16"),
    *("--max-total-tokens", str(POOL), "--chunked-prefill-size", "64"),
    *("--schedule-conservativeness", "0.3"),
)
CHECKS = {"SGLANG_ENABLE_STRICT_MEM_CHECK_DURING_BUSY": "1"}


@pytest.fixture(scope="module")
def watch(tmp_path_factory: pytest.TempPathFactory) -> Watch:
    return Watch(tmp_path_factory.mktemp("watch"))


@pytest.fixture(scope="module")
def asker(tiny_model: Path, watch: Watch) -> Iterator[Asker]:
    with Server(tiny_model, *FLAGS, env=CHECKS | watch.env) as server:
        yield Asker(server)


@pytest.fixture(scope="module")
def without_cache(tiny_model: Path) -> Iterator[Asker]:
    with Server(tiny_model, "--disable-radix-cache") as server:
        yield Asker(server)


def test_pages_of_16(asker: Asker) -> None:
    check_sharing(asker, page=16)


@pytest.fixture
def said_right(tiny_model: Path) -> Callable[[str, dict[str, Any]], bool]:
    """Whether a reply of /generate is what the model says to that prompt."""
    return lambda prompt, reply: is_greedy(tiny_model, list(prompt.encode()), reply["output_ids"])


def runs_long(asker: Asker, watch: Watch, threads: ThreadPoolExecutor, text: str, user: str) -> Any:
    """A request that decodes for seconds, and is doing so now."""
    before = len(watch.batches())
    body = {"text": text, "user_id": user, "sampling_params": sampling(LONG)}
    job = threads.submit(lambda: asker.generate(**body))
    until(lambda: len(watch.batches()) > before, "it runs")
    return job


def test_a_prefix_becomes_public_under_a_running_request(
    asker: Asker, watch: Watch, said_right: Any
) -> None:
    prompt, alice = fresh_prompt(320), fresh_user("alice")
    before = watch.counts
    with ThreadPoolExecutor(1) as threads:
        job = runs_long(asker, watch, threads, prompt, alice)
        replies = [asker.generate(text=prompt, user_id=fresh_user()) for _ in range(3)]
        freed = watch.counts["freed_duplicates"]
        assert not job.done()
        long = job.result()
    assert [reply["meta_info"]["cached_tokens"] for reply in replies] == [0, 0, 304]
    assert freed >= before.get("freed_duplicates", 0) + 2 * 320
    assert watch.counts["logical_frees"] > before.get("logical_frees", 0)
    assert all(said_right(prompt, reply) for reply in [long, *replies])
    whole = prompt + long["text"]
    stranger = asker.generate(text=whole, user_id=fresh_user())
    assert stranger["meta_info"]["cached_tokens"] == 320
    again = asker.generate(text=whole, user_id=alice)
    assert again["meta_info"]["cached_tokens"] >= 320 + LONG - 32
    assert said_right(whole, again)
    assert said_right(whole, stranger)


def test_a_prefix_ceases_to_be_public_under_a_running_request(
    asker: Asker, watch: Watch, said_right: Any
) -> None:
    prompt, alice, first = fresh_prompt(320), fresh_user("alice"), fresh_user("first")
    asker.generate(text=prompt, user_id=first)
    publish(asker, prompt, users=2)
    before = watch.counts
    with ThreadPoolExecutor(1) as threads:
        job = runs_long(asker, watch, threads, prompt, alice)
        prober, replies = fresh_user("prober"), []
        while watch.counts.get("demotions", 0) == before.get("demotions", 0):
            assert not job.done()
            replies.append(asker.generate(text=prompt, user_id=prober))
        long = job.result()
    assert replies[0]["meta_info"]["cached_tokens"] == 304
    assert watch.counts["outlived_prefixes"] > before.get("outlived_prefixes", 0)
    assert all(said_right(prompt, reply) for reply in [long, *replies])
    for other in (alice, prober, fresh_user()):
        reply = asker.generate(text=prompt, user_id=other, cache_scope="none")
        assert reply["meta_info"]["cached_tokens"] == 0
        assert said_right(prompt, reply)
    owner = asker.generate(text=prompt, user_id=first)
    assert owner["meta_info"]["cached_tokens"] == 304
    assert said_right(prompt, owner)


@pytest.mark.parametrize("seed", range(2))
def test_many_users_at_once(
    asker: Asker, without_cache: Asker, said_right: Any, watch: Watch, tiny_model: Path, seed: int
) -> None:
    before = watch.counts
    exchanges = storm(asker, seed, POOL)

    def anew(exchange: Exchange) -> list[int]:
        tokens = sampling(len(exchange.reply["output_ids"]))
        reply = without_cache.generate(text=exchange.prompt, sampling_params=tokens)
        return list(reply["output_ids"])

    with ThreadPoolExecutor(16) as threads:
        told = list(threads.map(anew, exchanges))
    for exchange, output in zip(exchanges, told, strict=True):
        prompt = list(exchange.prompt.encode())
        assert is_same(tiny_model, prompt, exchange.reply["output_ids"], output)
    assert all(said_right(exchange.prompt, exchange.reply) for exchange in exchanges)
    assert any(exchange.from_host for exchange in exchanges)
    # Or it would prove little.
    for event in ("promotions", "demotions", "merges", "freed_duplicates", "logical_frees"):
        assert watch.counts[event] > before.get(event, 0), event
