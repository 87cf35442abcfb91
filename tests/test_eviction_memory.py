"""The eviction order keeps nothing of users who are gone, and follows new weights and shares."""

from __future__ import annotations

import gc
import random
from array import array
from collections.abc import Mapping

import pytest
from support.engine import Engine, Setting
from support.trees import start_group

from sglang.srt.mem_cache.utils import get_eviction_strategy
from sglang.srt.tenancy.cache.core.node import Node, walk
from sglang.srt.tenancy.cache.core.order import EvictionOrder
from sglang.srt.tenancy.cache.core.quota import CacheShares

DEVICE = 600
EPOCH = 50


@pytest.fixture(autouse=True, scope="module")
def _group(tmp_path_factory: pytest.TempPathFactory) -> None:
    start_group(tmp_path_factory.mktemp("group"))


def serve(engine: Engine, user: str, tokens: array[int]) -> None:
    task = engine.new_task(user, tokens)
    assert engine.admit(task)
    engine.step(task)
    engine.finish(task)
    engine.land(99, 99)


def prompt(number: int, tokens: int) -> array[int]:
    return array("q", range(number * 1000, number * 1000 + tokens))


def kept_by(order: EvictionOrder) -> int:
    """Entries of all kinds."""
    heaps = [heap for heaps in order._leaves for heap in heaps.values()]
    segments = order.segments
    return (
        sum(map(len, heaps))
        + sum(map(len, order._heads))
        + sum(map(len, order._oldest))
        + len(order._kept)
        + sum(
            len(levels._heap) + len(levels._bounds)
            for levels in (order._by_protected, order._by_probation)
        )
        + len(segments.sizes)
        + len(segments._asked_again)
        + len(segments._returning)
    )


@pytest.mark.slow
@pytest.mark.parametrize("host", [False, True])
@pytest.mark.parametrize("leaving", ["evicted", "erased", "merged"])
def test_owners_who_are_gone_leave_nothing(leaving: str, host: bool) -> None:
    mode = "selective" if leaving == "merged" else "isolated"
    setting = Setting(
        host=host, device_tokens=DEVICE, mode=mode, public_users=2, epoch_requests=EPOCH
    )
    engine = Engine(setting)
    cache = engine.cache
    gc.collect()
    before = sum(type(each) is Node for each in gc.get_objects())
    for number in range(1500):
        user = f"u{number}"
        if leaving == "merged":  # each prompt becomes public with its second owner
            serve(engine, user, prompt(number // 2 % 8, 40))
        else:
            serve(engine, user, prompt(number, 20))
            if leaving == "erased":
                cache.erase(user)
        if number % 300 == 299:
            gc.collect()
            nodes = sum(type(each) is Node for each in gc.get_objects()) - before
            in_tree = len(walk(cache.root_node))
            assert nodes <= 3 * in_tree + 150
            for order in cache.core.orders:
                assert kept_by(order) <= 20 * in_tree + 8 * EPOCH + 400
    if leaving == "merged":
        assert cache.core.counts["merges"] > 5
    assert cache.core.clock.epoch > 10
    engine.check()


def test_of_an_erased_user_no_token_stays() -> None:
    engine = Engine(Setting(device_tokens=DEVICE, mode="isolated"))
    serve(engine, "other", prompt(1, 50))
    for number in range(10, 15):
        serve(engine, "gone", prompt(number, 30))
    engine.cache.erase("gone")
    for order in engine.cache.core.orders:
        waiting = [node for heaps in order._leaves for heap in heaps.values() for _, node in heap]
        assert all(node.owner == "other" for node in waiting)


# New weights and shares at run time


def sizes(engine: Engine) -> dict[str, int]:
    engine.check()
    return dict(engine.cache.core.device.order.sizes)


def settled(engine: Engine, users: str = "abc", start: int = 0) -> dict[str, int]:
    for number in range(start, start + 120):
        for user in users:
            serve(engine, user, prompt(number, 10))
    return sizes(engine)


def assert_divided(held: Mapping[str, int], weights: Mapping[str, float]) -> None:
    total = sum(weights.values())
    for user, weight in weights.items():
        assert abs(held[user] - DEVICE * weight / total) <= 25, held


@pytest.mark.parametrize("host", [False, True])
def test_memory_settles_at_new_weights(host: bool) -> None:
    engine = Engine(Setting(host=host, device_tokens=DEVICE, mode="isolated"))
    assert_divided(settled(engine), {"a": 1, "b": 1, "c": 1})
    engine.cache.redivide({"a": 4.0, "c": 0.5}, None)
    assert_divided(settled(engine, start=200), {"a": 4, "b": 1, "c": 0.5})
    if host:
        pool = engine.cache.token_to_kv_pool_host.size
        on_host = engine.cache.core.host.order.sizes
        assert abs(on_host["a"] - pool * 4 / 5.5) <= 40
    engine.cache.redivide({}, None)
    assert_divided(settled(engine, start=400), {"a": 1, "b": 1, "c": 1})


@pytest.mark.parametrize("host", [False, True])
def test_a_new_share_is_given_up_to_at_once(host: bool) -> None:
    engine = Engine(Setting(host=host, device_tokens=DEVICE, mode="isolated"))
    before = settled(engine)
    engine.cache.redivide({}, CacheShares({"a": 0.05}))
    after = sizes(engine)
    assert after == {**before, "a": 30}
    if host:
        pool = engine.cache.token_to_kv_pool_host.size
        assert engine.cache.core.host.order.sizes["a"] == pool // 20
    serve(engine, "a", prompt(900, 90))
    assert sizes(engine)["a"] == 30
    engine.cache.redivide({}, None)
    assert engine.cache.core.quota.shares is None
    serve(engine, "a", prompt(901, 90))
    assert sizes(engine)["a"] > 100


def test_a_share_of_less_than_a_page_changes_nothing() -> None:
    shares = CacheShares({"a": 0.5})
    engine = Engine(Setting(device_tokens=DEVICE, page_size=4, mode="isolated", shares=shares))
    with pytest.raises(ValueError, match=r"users\.b\.cache_share"):
        engine.cache.redivide({"a": 2.0}, CacheShares({"b": 0.001}))
    assert engine.cache.core.quota.shares is shares
    assert engine.cache.core.quota.weights == {}
    assert engine.cache.core.device.order.quota.of("a") == DEVICE // 2


# Upstream's other ways to order leaves


@pytest.mark.parametrize("policy", ["lru", "lfu", "slru", "priority", "fifo", "filo"])
@pytest.mark.parametrize("seed", range(3))
def test_one_owners_leaves_go_by_upstreams_policy(policy: str, seed: int) -> None:
    """Each eviction takes the leaf that the policy puts first now, of all that may go. Joining
    makes a leaf as old as its parent: under "fifo" its turn comes sooner while it waits."""
    rng = random.Random(seed)
    engine = Engine(Setting(host=False, device_tokens=DEVICE, mode="isolated"))
    cache = engine.cache
    cache.eviction_strategy = get_eviction_strategy(policy)
    cache.reset()
    order, priority = cache.core.device.order, cache.eviction_strategy.get_priority
    choose = order._choose
    evictions = 0

    def checked() -> tuple[str, int] | None:
        nonlocal evictions
        chosen = choose()
        if chosen is not None:
            first, node = order._leaves[chosen[1]][chosen[0]][0]
            evictions += 1
            assert first == priority(node)
            assert first == min(priority(leaf) for leaf in cache.evictable_leaves)
        return chosen

    order._choose = checked
    talks = [prompt(number, 60) for number in range(12)]
    for _ in range(400):
        talk = rng.choice(talks)
        task = engine.new_task("a", talk[: rng.randrange(1, 60)])
        task.req.priority = rng.randrange(5)
        assert engine.admit(task)
        engine.step(task)
        engine.finish(task)
        if rng.random() < 0.05:
            engine.evict(rng.randrange(1, 100))
    engine.check()
    assert evictions > 50
    assert cache.core.counts["joins"] > 20


def test_a_leaf_that_was_joined_waits_in_its_parents_place() -> None:
    """First in, first out: what was joined is as old as its oldest part."""
    engine = Engine(Setting(host=False, device_tokens=DEVICE, mode="isolated"))
    cache = engine.cache
    cache.eviction_strategy = get_eviction_strategy("fifo")
    cache.reset()
    for tokens in (prompt(1, 20), prompt(2, 30), prompt(1, 40), prompt(1, 40)):
        serve(engine, "a", tokens)
    assert engine.find("a", prompt(1, 40)) == 40
    assert cache.core.counts["joins"] == 2
    engine.evict(1)
    assert engine.find("a", prompt(2, 30)) == 30
    assert engine.find("a", prompt(1, 40)) < 40
