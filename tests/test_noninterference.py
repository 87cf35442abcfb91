"""What a user sees does not depend on other users' private prompts, nor on when they were sent.

Alice's transcript (her replies, what she had cached, and the order in which her requests were
scheduled) is taken three times on one server: alone; after somebody has sent her very prompts and
guesses at them; and while somebody waits with them in the queue. All three must be the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from support.asks import Asker, sampling
from support.patience import until
from support.prompts import fresh_prompt, fresh_user
from support.server import Server
from support.sharing import check_sharing, publish
from support.watch import Watch

pytestmark = pytest.mark.server

FLAGS = (
    *("--enable-tenant-cache", "--tenant-mode", "selective", "--enable-cache-report"),
    # One at a time, so that the order shows.
    *("--max-running-requests", "1"),
)
SERVERS = {
    "lpm": (
        *("--schedule-policy", "lpm", "--tenant-detector", "off-trust-all"),
        *("--page-size", "64", "--chunked-prefill-size", "128"),
    ),
    # Without a detector nothing becomes public by itself.
    "dfs-weight": (
        *("--schedule-policy", "dfs-weight", "--tenant-detector", "none"),
        *("--tenant-public-users", "2"),
    ),
}
PAGE = {"lpm": 64, "dfs-weight": 1}


@pytest.fixture(scope="module", params=SERVERS)
def policy(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def watch(policy: str, tmp_path_factory: pytest.TempPathFactory) -> Watch:
    return Watch(tmp_path_factory.mktemp("watch"))


@pytest.fixture(scope="module")
def asker(tiny_model: Path, policy: str, watch: Watch) -> Iterator[Asker]:
    with Server(tiny_model, *FLAGS, *SERVERS[policy], env=watch.env) as server:
        yield Asker(server)


def test_who_shares(asker: Asker, policy: str) -> None:
    if policy == "lpm":
        check_sharing(asker, page=PAGE[policy])
        return
    prompt = fresh_prompt()
    replies = publish(asker, prompt, users=8)
    assert all(reply.cached == 0 for reply in replies)
    assert asker.ask("generate", prompt).cached == 0


@dataclass(frozen=True)
class Transcript:
    replies: list[tuple[list[int], int]]  # output ids, cached tokens
    order: list[str]  # her requests as they were scheduled


@dataclass(frozen=True)
class Play:
    """Who says what: the same prompts whenever it is played."""

    public: str  # three others have it
    before: list[str]  # Alice's requests, one after the other
    queued: list[str]  # hers that wait together

    @classmethod
    def fresh(cls) -> Play:
        public = fresh_prompt(128)
        first, second, third = (fresh_prompt(260) for _ in range(3))
        # One that waits ends in the middle of what another one matches.
        third = second[:1] + third
        before = [public + first, second, public]
        queued = [
            third,  # nobody's so far but the snoops'
            second[:140] + fresh_prompt(80),
            third[:200] + fresh_prompt(60),  # shares a beginning with one that waits
            public + first + fresh_prompt(70),
            fresh_prompt(90),
            public + fresh_prompt(150),
        ]
        return cls(public, before, queued)


def perform(asker: Asker, watch: Watch, play: Play, *, snoops: int, queue_too: bool) -> Transcript:
    asker.empty_cache()
    alice, bob, eve = fresh_user("alice"), fresh_user("bob"), fresh_user("eve")
    publish(asker, play.public)
    replies = []
    for number, prompt in enumerate(play.before):
        for _ in range(snoops):
            snoop(asker, bob, prompt)
        replies.append(asker.generate(text=prompt, user_id=alice, rid=f"alice-{number}"))
    for prompt in play.queued if snoops else ():
        snoop(asker, bob, prompt)
    start = len(watch.batches())
    with ThreadPoolExecutor(20) as threads:
        blocker = {"text": "go", "user_id": fresh_user(), "rid": "blocker"}
        endless = threads.submit(lambda: asker.generate(**blocker, sampling_params=sampling(8_000)))
        until(lambda: len(watch.batches()) > start, "it runs")
        jobs: list[Future[Any]] = []
        waiting = 0
        for number, prompt in enumerate(play.queued):
            asks = [{"text": prompt, "user_id": alice, "rid": f"alice-queued-{number}"}]
            if queue_too and number in (0, 3):
                asks.insert(0, {"text": prompt, "user_id": eve, "rid": f"eve-{number}"})
            for ask in asks:
                jobs.append(threads.submit(partial(asker.generate, **ask)))
                waiting += 1
                watch.wait_for_waiting(waiting)
        asker.post("/abort_request", {"rid": "blocker"})
        endless.result()
        replies += [job.result() for job in jobs]
    hers = [reply for reply in replies if reply["meta_info"]["id"].startswith("alice")]
    order = [rid for batch in watch.batches()[start:] for rid, *_ in batch if "alice" in rid]
    return Transcript([(r["output_ids"], r["meta_info"]["cached_tokens"]) for r in hers], order)


def snoop(asker: Asker, user: str, prompt: str) -> None:
    """Send the prompt, a part of it, and it with another end."""
    for guess in (prompt, prompt[:130], prompt[:-3] + "xyz", prompt + "and more"):
        asker.generate(text=guess, user_id=user)


def test_a_user_cannot_tell_what_others_sent(asker: Asker, watch: Watch, policy: str) -> None:
    play = Play.fresh()
    alone = perform(asker, watch, play, snoops=0, queue_too=False)
    assert perform(asker, watch, play, snoops=2, queue_too=False) == alone
    assert perform(asker, watch, play, snoops=0, queue_too=True) == alone
    # She does read the cache, and its policy does change her order: or it would prove nothing.
    found = [cached for _, cached in alone.replies]
    assert found[0] == (128 if policy == "lpm" else 0)
    assert max(found) >= 256 + 64
    assert alone.order != sorted(alone.order)
