"""Eviction by fair share: upstream's exact order for one user, each user's share for many."""

from __future__ import annotations

import random
from array import array
from collections.abc import Collection, Mapping
from pathlib import Path

import pytest
from support.engine import Engine, Setting
from support.eviction import Rule
from support.trees import Tree, start_group

from sglang.srt.mem_cache.base_prefix_cache import EvictParams
from sglang.srt.mem_cache.radix_cache import RadixKey
from sglang.srt.tenancy.cache.core import order as order_module
from sglang.srt.tenancy.cache.core.node import PUBLIC, QUEUED_DEVICE, Node
from sglang.srt.tenancy.cache.core.order import EvictionOrder
from sglang.srt.tenancy.cache.core.window import EpochCounter
from sglang.srt.tenancy.namespace import Namespace


@pytest.fixture(autouse=True)
def _group(tmp_path_factory: pytest.TempPathFactory) -> None:
    start_group(Path(tmp_path_factory.mktemp("group")))


_talks = random.Random(99)
TALKS = [[_talks.randrange(3) for _ in range(40)] for _ in range(30)]


def prompt(rng: random.Random) -> list[int]:
    """Prompts that come back, longer or shorter, and share beginnings: nodes split and branch."""
    return rng.choice(TALKS)[: rng.randrange(1, 40)]


@pytest.mark.parametrize("seed", range(12))
def test_one_user_is_served_exactly_as_by_upstream(seed: int) -> None:
    rng = random.Random(seed)
    theirs = Tree(ours=False, device_tokens=120, host_ratio=2.5)
    ours = Tree(ours=True, device_tokens=120, host_ratio=2.5, mode="shared")
    for step in range(400):
        tokens = prompt(rng)
        actions = ["insert"] * 4 + ["settle"] * 4 + ["match"] * 2
        action = rng.choice([*actions, "load_back", "lock", "unlock"])
        results = []
        for tree in (theirs, ours):
            if action in ("unlock", "settle"):
                results.append(getattr(tree, action)())
            else:
                results.append(getattr(tree, action)(tokens))
        assert results[0] == results[1], (step, action)
        assert theirs.cache.evictable_size() == ours.cache.evictable_size(), (step, action)
        ours.cache.sanity_check()


def test_the_comparison_above_does_evict_and_load_back() -> None:
    """Or it would prove nothing."""
    rng = random.Random(0)
    tree = Tree(ours=True, device_tokens=120, host_ratio=2.5)
    loaded = 0
    for _ in range(300):
        tree.insert(prompt(rng))
        tree.settle()
        loaded += tree.load_back(prompt(rng))
    host = sum(tree.cache.core.host.order.sizes.values())
    assert loaded > 0
    assert 120 < host <= 300  # more than the device holds, no more than the host can


def shares(tree: Tree) -> dict[str, int]:
    tree.cache.sanity_check()
    return dict(tree.cache.core.device.order.sizes)


def test_a_scanning_neighbour_takes_nothing_from_a_small_user() -> None:
    tree = Tree(ours=True, device_tokens=1000, host_ratio=1.2)
    mine = list(range(300))
    tree.insert(mine, "small")
    tree.settle()
    for start in range(1000, 40_000, 90):
        tree.insert(range(start, start + 90), "scanner")
        tree.settle()
    assert tree.match(mine, "small") == (300, 0)
    assert shares(tree)["scanner"] <= 700


def test_the_host_tier_is_divided_too() -> None:
    tree = Tree(ours=True, device_tokens=200, host_ratio=5.0)
    mine = list(range(150))
    tree.insert(mine, "small")
    tree.settle()
    for start in range(1000, 40_000, 90):
        tree.insert(range(start, start + 90), "scanner")
        tree.settle()
    device, host = tree.match(mine, "small")
    assert device + host == 150


@pytest.mark.parametrize("weights", [{}, {"a": 1.0, "b": 2.0, "c": 4.0}, {"a": 0.5}])
def test_memory_settles_at_the_weights(weights: dict[str, float]) -> None:
    tree = Tree(ours=True, device_tokens=1400, host_ratio=1.1, weights=weights)
    for round_ in range(600):
        for user in "abc":
            start = round_ * 10
            tree.insert(range(start, start + 10), user)
            tree.settle()
    held = shares(tree)
    total = sum(weights.get(user, 1.0) for user in "abc")
    for user in "abc":
        fair = 1400 * weights.get(user, 1.0) / total
        assert abs(held[user] - fair) <= 20, (held, fair)


def test_an_idle_user_is_evicted_only_above_the_share() -> None:
    tree = Tree(ours=True, device_tokens=1000, host_ratio=1.1)
    for user, end in (("idle", 900), ("busy", 3000)):
        for start in range(0, end, 10):
            tree.insert(range(start, start + 10), user)
            tree.settle()
    # Half each; at a tie the older leaf goes, so they may be one leaf apart.
    assert shares(tree) in ({"idle": 500, "busy": 500}, {"idle": 490, "busy": 510})


def watch(
    engine: Engine, order: EvictionOrder, leaves: Collection[Node], capacity: int
) -> list[str]:
    """Hold every eviction of a tier against the rule. Returns the owners who gave, as they do."""
    given: list[str] = []
    choose = order._choose

    def checked() -> tuple[str, int] | None:
        cache = engine.cache
        if order.segments.epoch != cache.core.clock.epoch:
            order._age()
        rule = Rule(
            order,
            cache.root_node,
            leaves,
            cache.core.clock.epoch,
            order.segments.returning(),
            capacity,
            engine.setting.weights,
        )
        allowed = rule.next()
        chosen = choose()
        if chosen is None:
            assert not allowed
            return None
        owner, segment = chosen
        assert order._leaves[segment][owner][0][1] in allowed
        given.append(owner)
        return chosen

    order._choose = checked  # type: ignore[method-assign]
    return given


@pytest.mark.parametrize("host", [False, True])
@pytest.mark.parametrize("seed", range(8))
def test_each_eviction_follows_the_rule(
    seed: int, host: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(order_module, "_STALE", 0.0)  # the only thing that is looked at late
    rng = random.Random(seed)
    setting = Setting(
        host=host,
        page_size=(1, 4)[seed % 2],
        device_tokens=240,
        mode=("isolated", "selective")[seed // 2 % 2],
        public_users=3,
        epoch_requests=25,
        weights=({}, {"u0": 3.0, "u1": 0.5, PUBLIC: 0.5})[seed // 4],
    )
    engine = Engine(setting)
    cache = engine.cache
    given = watch(engine, cache.core.device.order, cache.evictable_leaves, 240)
    if host:
        leaves, pool = cache.evictable_host_leaves, cache.token_to_kv_pool_host
        on_host = watch(engine, cache.core.host.order, leaves, pool.size)
    users = [f"u{n}" for n in range(4 + seed)]
    for _ in range(250):
        user = rng.choice(users if rng.random() < 0.5 else users[:2])
        task = engine.new_task(user, array("q", prompt(rng)))
        if engine.admit(task):
            engine.step(task)
        else:
            engine.tasks.remove(task)
        while len([task for task in engine.tasks if task.decoding]) > rng.randrange(1, 4):
            engine.finish(next(task for task in engine.tasks if task.decoding))
        engine.land(rng.randrange(4), rng.randrange(4))
        if rng.random() < 0.1:
            engine.evict(rng.randrange(60))
            engine.evict_host(rng.randrange(60))
        if rng.random() < 0.02:
            cache.erase(rng.choice(users))
    assert len(given) > 40
    assert len(set(given)) > 2
    if host:
        assert len(on_host) > 5
    engine.drain()


def test_no_slot_is_lost() -> None:
    rng = random.Random(1)
    tree = Tree(ours=True, device_tokens=200, host_ratio=2.0)
    for _ in range(500):
        user = f"u{rng.randrange(4)}"
        rng.choice([tree.insert, tree.load_back, tree.lock])(prompt(rng), user)
        if rng.random() < 0.5:
            tree.unlock()
        tree.settle()
    while tree.locks:
        tree.unlock()
    tree.settle()
    tree.cache.evict(EvictParams(num_tokens=10_000))
    tree.cache.evict_host(10_000)
    assert tree.allocator.available_size() == 200
    host = tree.cache.cache_controller.mem_pool_host
    assert host.available_size() == host.size
    assert tree.cache.core.device.order.sizes == tree.cache.core.host.order.sizes == {}


def order_of(sizes: Mapping[str, int], weights: Mapping[str, float], capacity: int) -> list[str]:
    """Whose leaves an order gives up, one token each, until nothing is left."""
    leaves: set[Node] = set()
    order = EvictionOrder(
        QUEUED_DEVICE,
        lambda node: node.last_access_time,
        leaves,
        capacity,
        EpochCounter(1024),
        weights,
    )
    moment = 0
    for owner, tokens in sizes.items():
        extra_key = Namespace(owner, None) if owner else None
        for token in range(tokens):
            moment += 1
            node = Node(RadixKey(array("q", [token]), extra_key), None, moment, 0, 0)
            leaves.add(node)
            order.resize(node, 1)
            order.offer(node)
    given = []
    for node in order.take():
        leaves.remove(node)
        order.resize(node, -1)
        given.append(node.owner)
    assert not order.sizes
    return given


def test_the_public_is_entitled_to_as_much_as_all_users_together() -> None:
    given = order_of({"a": 60, "b": 60, PUBLIC: 120}, {}, 120)
    assert all(abs(given[:n].count(PUBLIC) - n / 2) <= 2 for n in range(1, 120))
    assert order_of({"a": 30, "b": 30, PUBLIC: 50}, {}, 120)[:10].count(PUBLIC) == 0
    assert order_of({"a": 30, "b": 30, PUBLIC: 70}, {}, 120)[:10].count(PUBLIC) == 10


def test_the_public_has_a_weight() -> None:
    given = order_of({"a": 40, PUBLIC: 80}, {PUBLIC: 2.0}, 60)
    assert all(abs(given[:n].count(PUBLIC) - 2 * n / 3) <= 3 for n in range(1, 60))


def test_where_nobody_has_too_much_the_oldest_goes() -> None:
    """Not whoever is called first, or holds most."""
    assert order_of({PUBLIC: 1, "a": 1}, {}, 100) == [PUBLIC, "a"]
    for names in ("abcd", "dcba", "bdac"):
        assert order_of(dict.fromkeys(names, 1), {}, 8) == list(names)
    assert order_of({"a": 1, "b": 9, "c": 2}, {}, 100) == [*"a", *"bbbbbbbbb", *"cc"]
    tree = Tree(ours=True, device_tokens=400, host_ratio=1.2)
    users = [f"user-{number * 7919 % 97}" for number in range(60)]
    for start, user in enumerate(users):
        tree.insert(range(start * 1000, start * 1000 + 50), user)
        tree.settle()
        assert set(shares(tree)) == set(users[max(0, start - 7) : start + 1])
