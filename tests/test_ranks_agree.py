"""Every rank runs its own tree, and decides the same at every step.

Both ranks of a real server write a digest of all they have decided before each step of the
scheduler (support/watch.py). Strings hash differently in the two processes.
The model has latent attention, whose KV lies in pools of another kind on both tiers.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.asks import Asker
from support.latent import make_latent_model
from support.patience import until
from support.reference import is_greedy
from support.server import Server
from support.sharing import check_sharing
from support.storm import storm
from support.watch import Watch

pytestmark = pytest.mark.server

POOL = 1536  # tokens
HOST = 2 * POOL
FLAGS = (
    *("--enable-tenant-cache", "--tenant-mode", "selective", "--enable-cache-report"),
    *("--tenant-detector", "off-trust-all", "--tenant-public-users", "3"),
    *("--tenant-epoch-requests", "32", "--tenant-quarantine-epochs", "1"),
    *("--tenant-rdr-threshold", "0.7", "--tenant-rdr-min-hits", "10"),
    # A host that is soon full, too.
    *("--enable-hierarchical-cache", "--hicache-ratio", "2", "--tp-size", "2"),
    *("--max-total-tokens", str(POOL), "--chunked-prefill-size", "64"),
    *("--schedule-conservativeness", "0.3"),
)
ENV = {"SGLANG_ENABLE_STRICT_MEM_CHECK_DURING_BUSY": "1", "PYTHONHASHSEED": "random"}


@pytest.fixture(scope="module")
def watch(tmp_path_factory: pytest.TempPathFactory) -> Watch:
    return Watch(tmp_path_factory.mktemp("watch"))


@pytest.fixture(scope="module")
def model(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("latent")
    make_latent_model(folder, tokenizer_from=tiny_model)
    return folder


@pytest.fixture(scope="module")
def asker(model: Path, watch: Watch) -> Iterator[Asker]:
    with Server(model, *FLAGS, env=ENV | watch.env) as server:
        yield Asker(server)


def test_ranks_decide_the_same(asker: Asker, watch: Watch, model: Path) -> None:
    check_sharing(asker)
    exchanges = storm(asker, 7, POOL)
    last = watch.steps(0)[-1]["step"]
    until(lambda: watch.steps(1)[-1]["step"] >= last, "the second rank has come so far")
    first, second = ([s for s in watch.steps(rank) if s["step"] <= last] for rank in (0, 1))
    assert len({step["digest"] for step in first}) > 200
    assert max(step["host"] for step in first) > 0.8 * HOST
    for ours, theirs in zip(first, second, strict=True):
        assert ours == theirs
    seeds = [watch.lines(rank)[0]["seed"] for rank in (0, 1)]
    assert seeds[0] != seeds[1]
    # It was not idle, and not for want of memory that they agree.
    for event in ("promotions", "demotions", "merges", "freed_duplicates", "logical_frees"):
        assert watch.counts[event], event
    assert any(exchange.from_host for exchange in exchanges)
    for exchange in exchanges:
        assert is_greedy(model, list(exchange.prompt.encode()), exchange.reply["output_ids"])
