"""What changes sides, merges or goes while its bytes are on their way between the tiers."""

from __future__ import annotations

from array import array
from typing import Any

import pytest
from support.engine import Engine, Setting
from support.served import begin, own, serve
from support.trees import start_group

from sglang.srt.managers import cache_controller
from sglang.srt.tenancy.cache.adapters.hiradix import storage
from sglang.srt.tenancy.cache.core.node import LOGICALLY_FREED, Node, walk
from sglang.srt.tenancy.cache.core.quota import CacheShares

PAGE = 4
COMMON = array("q", range(100, 140))  # ten pages
ALL = 10**6


@pytest.fixture(autouse=True, scope="module")
def _group(tmp_path_factory: pytest.TempPathFactory) -> None:
    start_group(tmp_path_factory.mktemp("group"))


def engine(**changes: Any) -> Engine:
    defaults: dict[str, Any] = {"page_size": PAGE, "detector": "rules"}
    on = Engine(Setting(**(defaults | changes)))
    if on.storage is not None:
        done, message = on.storage.attach()
        assert done, message
    return on


def judge(on: Engine, user: str, prompt: array[int]) -> None:
    on.judge(user, None, prompt, len(prompt), None)
    on.check()


def settle(on: Engine) -> None:
    """All transfers take place."""
    for _ in range(3):
        on.land(99, 99)
        if on.storage is not None:
            on.storage.land(99, 99)
    on.land(99, 99)
    on.check()


def only_stored(on: Engine) -> None:
    """Neither device nor host have anything that nobody uses."""
    settle(on)
    on.evict(ALL)
    on.evict_host(ALL)
    on.check()


def fetched(on: Engine, user: str, prompt: array[int]) -> int:
    """What a request finds after it has waited for storage."""
    task = on.new_task(user, prompt)
    on.fetch(task)
    settle(on)
    assert on.settle_fetch(task)
    on.check()
    found = on.peek(task)
    on.abort(task)
    return found


def nodes(on: Engine, owner: str) -> list[Node]:
    return [node for node in walk(on.cache.root_node) if node.owner == owner]


# Late verdicts


@pytest.mark.parametrize("running", [False, True])
def test_a_verdict_on_what_went_to_the_host_keeps_what_the_device_has(running: bool) -> None:
    """ann's path is on the host alone when its verdict comes; ben's, with more below, is not."""
    on = engine()
    serve(on, "ann", COMMON)
    on.land(99, 99)
    on.evict(ALL)
    task = begin(on, "ben", COMMON + own("ben"))
    if not running:
        on.finish(task)
    judge(on, "ann", COMMON)
    found = [on.find(user, COMMON + own("ben")) for user in ("ann", "ben", "cyn")]
    assert found == [40, 52, 40]
    assert on.on_device("cyn", COMMON) == 40
    assert on.cache.evictable_size() >= 0
    if running:
        on.step(task, 2)
        on.finish(task)
    settle(on)
    on.drain()


def test_a_verdict_on_a_path_of_which_others_have_more_and_less() -> None:
    """The device has a part of it from one owner, the rest is on the host with another."""
    on = engine(public_users=3)
    serve(on, "ann", COMMON)
    serve(on, "cyn", COMMON)
    on.land(99, 99)
    on.evict(ALL)
    serve(on, "ben", COMMON[:20] + own("ben"))
    judge(on, "ann", COMMON)
    assert [on.find(user, COMMON) for user in ("ann", "ben", "cyn", "dan")] == [40, 20, 40, 20]
    serve(on, "ben", COMMON)
    on.evict(ALL)
    serve(on, "ben", COMMON[:28] + own("more"))
    judge(on, "cyn", COMMON)
    assert [on.find(user, COMMON) for user in ("ann", "ben", "cyn", "dan")] == [40] * 4
    settle(on)
    on.drain()


def test_a_verdict_twice_and_out_of_order() -> None:
    on = engine()
    for user in ("ann", "ben"):
        serve(on, user, COMMON + own(user))
    on.judge("ann", None, COMMON + own("ann"), 20, None)
    on.judge("ann", None, COMMON[:8], 8, None)
    on.judge("ann", None, COMMON + own("ann"), 20, None)
    on.check()
    assert on.find("cyn", COMMON) == 20
    on.drain()


# Host slots that a transfer uses


def test_a_host_copy_that_is_being_loaded_outlives_the_node_it_was_handed_to() -> None:
    """ann's copy is loaded back for her request when ben's becomes public and takes it over."""
    on = engine(write_policy="write_through_selective", host_ratio=1.3, device_tokens=160)
    serve(on, "ann", COMMON)
    serve(on, "ann", COMMON)  # the second use writes it
    on.land(99, 99)
    on.evict(ALL)
    on.abort(begin(on, "ben", COMMON))  # used once: the host has none of it
    task = on.new_task("ann", COMMON + own("ann"))
    assert on.admit(task)
    assert on.streams is not None
    assert on.streams.loads
    host = on.cache.token_to_kv_pool_host
    judge(on, "ben", COMMON)
    free = host.available_size()
    on.evict(ALL)
    on.evict_host(ALL)
    assert host.available_size() == free, "slots were freed that a load reads"
    on.check()
    while not task.decoding:
        on.step(task, 1)
        on.check()
    on.finish(task)
    settle(on)
    on.drain()


def test_a_part_of_what_is_being_stored_is_not_evicted_when_the_rest_goes() -> None:
    on = engine(storage=True)
    serve(on, "ann", COMMON + own("ann"))
    on.land(99, 99)  # the backup to storage is under way, of one node
    serve(on, "ben", COMMON)
    judge(on, "ben", COMMON)  # ann's node is cut where the public part ends
    on.cache.erase("ann")
    on.check()
    on.land(99, 99)
    on.evict(ALL)
    on.evict_host(ALL)
    on.check()
    settle(on)  # Storage looks whether the bytes are those that were to be stored
    on.drain()


def test_what_takes_over_a_copy_on_its_way_is_stored_and_announced_once() -> None:
    """The node whose write it was is gone when the write is done."""
    on = engine(storage=True, write_policy="write_through_selective")
    serve(on, "ann", COMMON)
    serve(on, "ann", COMMON)
    assert on.streams is not None
    assert on.streams.writes
    serve(on, "ben", COMMON)
    judge(on, "ben", COMMON)
    assert nodes(on, "")
    assert not nodes(on, "ann")
    announced: list[Node] = []
    on.cache._record_store_event = lambda node, medium=None: announced.append(node)
    settle(on)
    assert announced
    assert all(not node.state & LOGICALLY_FREED for node in announced)
    assert on.storage is not None
    assert len(on.storage.pages()) >= len(COMMON) // PAGE - 1
    only_stored(on)
    assert fetched(on, "cyn", COMMON + own("cyn")) >= 36
    on.drain()


def test_a_copy_that_arrives_where_the_chain_above_has_grown() -> None:
    """What was one node when its write was started lies in several, the upper of which was made
    longer since."""
    on = engine(storage=True, epoch_requests=1024)
    on.cache.publish(COMMON[:8])
    task = begin(on, "ann", COMMON[:8])
    on.finish(task)
    settle(on)
    serve(on, "ann", COMMON[:20])
    settle(on)
    serve(on, "ann", COMMON)  # its last part is being written
    serve(on, "ann", COMMON[:28] + own("ann"))  # which is cut
    on.cache.withdraw(COMMON[:8])
    on.peek(on.new_task("ann", COMMON + own("more")))  # joins what may be joined
    settle(on)
    assert on.find("ann", COMMON) == 40
    on.drain()


# Storage


def test_pages_fetched_for_what_ceased_to_be_public_are_dropped() -> None:
    """The prefix that ben's fetch goes on from belongs to ann by the time it is done."""
    on = engine(storage=True, detector="none")
    on.cache.publish(COMMON[:20])
    serve(on, "ann", COMMON[:20])
    serve(on, "ben", COMMON)
    only_stored(on)
    assert fetched(on, "ann", COMMON[:20] + own("ann")) == 20
    serve(on, "ann", COMMON[:20] + own("ann"))  # public once more
    settle(on)
    task = on.new_task("ben", COMMON + own("ben"))
    on.fetch(task)
    assert on.cache.ongoing_prefetch
    on.storage.land(0, 0)  # type: ignore[union-attr]
    on.land(0, 0)
    on.storage.land(0, 99)  # type: ignore[union-attr]
    on.cache.withdraw(COMMON[:20])
    on.check()
    assert on.settle_fetch(task)
    on.check()
    assert on.find("ben", COMMON) == 0
    on.drain()


def test_public_pages_of_what_another_replica_demoted_are_not_asked_for() -> None:
    on = engine(storage=True, detector="none")
    on.cache.publish(COMMON)
    serve(on, "ann", COMMON)
    settle(on)
    only_stored(on)
    assert fetched(on, "ben", COMMON + own("ben")) == len(COMMON)
    only_stored(on)
    elsewhere = on.cache.core.sharing.memory.elsewhere
    elsewhere.learn([], elsewhere.hashes(None, COMMON, [16]))
    assert fetched(on, "cyn", COMMON + own("cyn")) < 16
    on.drain()


def test_names_are_made_anew_when_storage_is_attached_again() -> None:
    on = engine(storage=True, detector="none")
    assert on.storage is not None
    on.cache.publish(COMMON[:20])
    serve(on, "ann", COMMON[:20])
    settle(on)
    on.storage.detach()
    on.cache.withdraw(COMMON[:20])
    done, message = on.storage.attach()
    assert done, message
    serve(on, "ann", COMMON)
    only_stored(on)
    assert fetched(on, "ben", COMMON + own("ben")) <= 20  # what was public once, and no more
    assert fetched(on, "ann", COMMON + own("ann")) >= 20
    on.drain()


def test_storage_is_asked_for_each_name_once_and_in_batches(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(storage, "STORAGE_BATCH_SIZE", 4)
    assert cache_controller.STORAGE_BATCH_SIZE > 4
    on = engine(storage=True, detector="none")
    on.cache.publish(COMMON[:20])
    serve(on, "ann", COMMON)
    only_stored(on)
    backend = on.cache.cache_controller.storage_backend
    asked: list[list[str]] = []
    exists = backend.batch_exists

    def batch_exists(names: list[str], *more: Any) -> int:
        asked.append(list(names))
        return int(exists(names, *more))

    backend.batch_exists = batch_exists
    assert fetched(on, "ann", COMMON + own("ann")) == 40
    names = [name for batch in asked for name in batch]
    assert len(names) == len(set(names)), "a name was asked for twice"
    assert max(map(len, asked)) <= 4
    on.drain()


@pytest.mark.parametrize("where", ["in storage", "on the device"])
def test_what_was_stored_before_its_beginning_became_public_is_found(where: str) -> None:
    on = engine(storage=True, detector="none")
    prompt = COMMON + own("ben")
    serve(on, "ben", prompt)
    only_stored(on)
    on.cache.publish(COMMON[:8])
    serve(on, "ann", COMMON[:8])
    if where == "in storage":
        only_stored(on)
    settle(on)
    assert fetched(on, "cyn", prompt) == 8
    assert fetched(on, "ben", prompt) >= len(prompt) - PAGE
    on.drain()


def test_write_back_cannot_be_chosen_with_a_storage() -> None:
    on = engine(storage=True)
    assert on.storage is not None
    on.storage.detach()
    done, message = on.storage.attach(hicache_write_policy="write_back")
    assert not done
    assert "write_through" in message
    assert not on.storage.attached


def test_a_share_is_kept_when_storage_is_detached() -> None:
    """What is being backed up cannot be evicted until then."""
    on = engine(storage=True, device_tokens=160, shares=CacheShares(default=0.5))
    assert on.storage is not None
    for start in range(6):
        serve(on, "ann", own(str(start), 32))
        on.land(99, 99)
        on.evict(ALL)
    on.storage.detach()
    on.check()
    on.drain()
