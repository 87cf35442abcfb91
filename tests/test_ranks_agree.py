"""Every rank runs its own tree, and decides the same at every step.

Both ranks of a real server write a digest of all they have decided before each step of the
scheduler (support/watch.py). Strings hash differently in the two processes.
The model has latent attention, whose KV lies in pools of another kind on both tiers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.asks import Asker
from support.forkserver.spawned import ANEW
from support.latent import make_latent_model
from support.patience import until
from support.prompts import fresh_prompt, fresh_user
from support.reference import is_greedy
from support.server import Server
from support.sharing import check_sharing
from support.storm import storm
from support.watch import Watch

pytestmark = pytest.mark.server

POOL = 1536  # tokens
HOST = 2 * POOL
# A host that is soon full, too.
BOTH = (
    *("--enable-tenant-cache", "--tenant-mode", "selective", "--enable-cache-report"),
    *("--tenant-detector", "off-trust-all", "--tenant-public-users", "3"),
    *("--enable-hierarchical-cache", "--hicache-ratio", "2", "--tp-size", "2"),
    *("--max-total-tokens", str(POOL), "--chunked-prefill-size", "64"),
    *("--schedule-conservativeness", "0.3"),
)
COUNTED = (
    *BOTH,
    *("--tenant-epoch-requests", "32", "--tenant-quarantine-epochs", "1"),
    *("--tenant-rdr-threshold", "0.7", "--tenant-rdr-min-hits", "10"),
)
WINDOW = 40  # requests after which votes are counted
VOTED = (
    *(*BOTH, "--tenant-promotion", "dp", "--tenant-dp-epsilon", "4", "--tenant-dp-delta", "0.01"),
    *("--tenant-dp-votes", "4", "--tenant-dp-window", str(WINDOW), "--tenant-dp-period", "4"),
)
# The first rank is an interpreter of its own.
ENV = {"SGLANG_ENABLE_STRICT_MEM_CHECK_DURING_BUSY": "1", ANEW: "1"}


@pytest.fixture(scope="module")
def model(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("latent")
    make_latent_model(folder, tokenizer_from=tiny_model)
    return folder


@contextmanager
def watched(model: Path, folder: Path, flags: Sequence[str]) -> Iterator[tuple[Asker, Watch]]:
    """Start a server of two ranks that write what they decide."""
    watch = Watch(folder)
    with Server(model, *flags, env=ENV | watch.env) as server:
        yield Asker(server), watch


def check_ranks(watch: Watch) -> None:
    """Both ranks have decided the same up to now, and not for want of decisions or of memory."""
    last = watch.steps(0)[-1]["step"]
    until(lambda: watch.steps(1)[-1]["step"] >= last, "the second rank has come so far")
    first, second = ([s for s in watch.steps(rank) if s["step"] <= last] for rank in (0, 1))
    assert len({step["digest"] for step in first}) > 200
    assert max(step["host"] for step in first) > 0.8 * HOST
    for ours, theirs in zip(first, second, strict=True):
        assert ours == theirs
    seeds = [watch.lines(rank)[0]["seed"] for rank in (0, 1)]
    assert seeds[0] != seeds[1]


def test_ranks_decide_the_same(model: Path, tmp_path: Path) -> None:
    with watched(model, tmp_path, COUNTED) as (asker, watch):
        check_sharing(asker)
        exchanges = storm(asker, 7, POOL)
        check_ranks(watch)
        for event in ("promotions", "demotions", "merges", "freed_duplicates", "logical_frees"):
            assert watch.counts[event], event
    assert any(exchange.from_host for exchange in exchanges)
    for exchange in exchanges:
        assert is_greedy(model, list(exchange.prompt.encode()), exchange.reply["output_ids"])


def test_ranks_count_votes_alike(model: Path, tmp_path: Path) -> None:
    """Each rank draws the thresholds of votes by itself, by a key that they share."""
    with watched(model, tmp_path, VOTED) as (asker, watch):
        document = fresh_prompt(100)

        def promoted() -> bool:
            # Two requests of a user that go apart after the document are a vote for it.
            for user in [fresh_user() for _ in range(WINDOW // 2)]:
                for _ in range(2):
                    asker.ask("generate", document + fresh_prompt(8), user_id=user)
            return bool(watch.counts["promotions"])

        until(promoted, "enough votes")
        storm(asker, 8, POOL)
        check_ranks(watch)
        assert watch.counts["merges"]
