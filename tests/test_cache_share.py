"""``cache_share``: a user who holds more than it gives their oldest, at once, and nobody else."""

from __future__ import annotations

import random
from array import array
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any

import pytest
from support.engine import Engine, Setting, Task
from support.play import Play, random_steps
from support.trees import Tree, start_group

from sglang.srt.mem_cache.radix_cache import RadixKey
from sglang.srt.tenancy.cache.core.node import PUBLIC, QUEUED_DEVICE, Node, walk
from sglang.srt.tenancy.cache.core.order import EvictionOrder
from sglang.srt.tenancy.cache.core.quota import CacheShares
from sglang.srt.tenancy.cache.core.report import stats
from sglang.srt.tenancy.cache.core.window import EpochCounter
from sglang.srt.tenancy.namespace import Namespace
from sglang.srt.tenancy.user_id import SHARED_ANONYMOUS

POOL = 1000
SMALL = CacheShares({"small": 0.1})
POLICIES = ("write_through", "write_through_selective")


@pytest.fixture(autouse=True, scope="module")
def _group(tmp_path_factory: pytest.TempPathFactory) -> None:
    start_group(tmp_path_factory.mktemp("group"))


def engine_of(host: bool = True, shares: CacheShares = SMALL, **more: Any) -> Engine:
    more.setdefault("mode", "isolated")
    return Engine(Setting(host=host, shares=shares, device_tokens=POOL, **more))


def prompt(number: int, tokens: int) -> array[int]:
    return array("q", range(number * 10_000, number * 10_000 + tokens))


def serve(engine: Engine, user: str, tokens: array[int]) -> None:
    """A whole request, and its transfers."""
    task = start(engine, user, tokens)
    engine.finish(task)
    engine.land(99, 99)
    engine.check()


def start(engine: Engine, user: str, tokens: array[int]) -> Task:
    task = engine.new_task(user, tokens)
    assert engine.admit(task)
    engine.step(task)
    engine.check()
    return task


def held(engine: Engine, user: str) -> tuple[int, int]:
    """Tokens on the device, and on the host: counted, not taken from the tree's own books."""
    device = host = 0
    for node in walk(engine.cache.root_node):
        if node.owner == user:
            device += 0 if node.value is None else len(node.value)
            host += 0 if node.host_value is None else len(node.host_value)
    return device, host


def found(engine: Engine, user: str, tokens: array[int]) -> int:
    return engine.find(user, tokens)


@pytest.mark.parametrize("host", [False, True])
def test_the_oldest_goes_as_soon_as_the_share_is_full(host: bool) -> None:
    engine = engine_of(host)
    for number in range(30):
        serve(engine, "small", prompt(number, 40))
    assert held(engine, "small")[0] == 100
    assert held(engine, "small")[1] == (200 if host else 0)
    # A share of 0.1 is 100 tokens on the device and 200 on the host, of 1,000 and 2,000.
    newest = 5 if host else 2
    kept = [found(engine, "small", prompt(number, 40)) for number in range(30)]
    assert kept[30 - newest :] == [40] * newest
    assert sum(kept) == (200 if host else 100)


def test_what_is_evicted_is_cut_where_the_share_ends() -> None:
    engine = engine_of(host=False, page_size=4)
    serve(engine, "small", prompt(1, 400))
    assert found(engine, "small", prompt(1, 400)) == 100


@pytest.mark.parametrize("policy", POLICIES)
def test_what_leaves_the_device_stays_on_the_host(policy: str) -> None:
    engine = engine_of(write_policy=policy)
    for _ in range(3):  # write_through_selective writes what was hit
        serve(engine, "small", prompt(1, 60))
    serve(engine, "small", prompt(2, 60))
    assert held(engine, "small")[0] == 100
    assert found(engine, "small", prompt(1, 60)) == 60
    # It comes back from there, and then it is the other one that goes.
    serve(engine, "small", prompt(1, 70))
    assert engine.loaded > 0
    assert found(engine, "small", prompt(1, 70)) == 70


def test_nobody_else_is_evicted() -> None:
    engine = engine_of(shares=CacheShares({"small": 0.1, "also": 0.2}))
    others = {"also": prompt(100, 150), "free": prompt(101, 400)}
    for user, tokens in others.items():
        serve(engine, user, tokens)
    for number in range(40):
        serve(engine, "small", prompt(number, 90))
        assert held(engine, "also")[0] == 150
        assert held(engine, "free")[0] == 400


@pytest.mark.parametrize("host", [False, True])
def test_what_a_request_uses_stays_and_counts(host: bool) -> None:
    engine = engine_of(host)
    serve(engine, "small", prompt(1, 60))
    task = start(engine, "small", prompt(2, 300))
    engine.land(99, 99)
    # It fills the share three times: all else goes, and it does not.
    assert held(engine, "small")[0] == 300
    assert engine.cache.protected_size() == 300
    assert found(engine, "small", prompt(2, 300)) == 300
    engine.finish(task)
    engine.land(99, 99)
    assert held(engine, "small") == (100, 200 if host else 0)


@pytest.mark.parametrize("host", [False, True])
def test_retracted_and_aborted_requests_leave_no_more(host: bool) -> None:
    engine = engine_of(host)
    for end in (engine.retract, engine.abort):
        task = start(engine, "small", prompt(2, 300))
        end(task)
        engine.land(99, 99)
        engine.check()
        assert held(engine, "small")[0] == 100


def test_a_transfers_end_unlocks_what_is_evicted() -> None:
    tree = Tree(ours=True, device_tokens=POOL, shares=SMALL)
    first, second = prompt(1, 60), prompt(2, 60)
    for tokens in (first, second):
        tree.insert(tokens, "small")
        tree.settle()
    tree.lock(second, "small")
    assert tree.load_back(first, "small") == 20
    assert tree.cache.core.device.order.sizes == {"small": 120}  # all of it is in use
    tree.settle()
    assert tree.cache.core.device.order.sizes == {"small": 100}
    tree.cache.sanity_check()


def test_the_public_counts_to_nobody() -> None:
    engine = engine_of(mode="selective", shares=CacheShares({"small": 0.1}, default=0.2))
    for user in ("small", "free", "small"):
        serve(engine, user, prompt(1, 300))
    assert held(engine, PUBLIC)[0] == 300
    assert found(engine, "small", prompt(1, 300)) == 300
    assert held(engine, "small") == (0, 0)


def test_what_ceases_to_be_public_counts_again() -> None:
    engine = engine_of(mode="selective", detector="none")
    engine.cache.publish(prompt(1, 300))
    serve(engine, "small", prompt(1, 300))
    assert held(engine, PUBLIC)[0] == 300
    engine.cache.withdraw(prompt(1, 300))
    engine.check()
    assert held(engine, "small")[0] == 100
    assert held(engine, PUBLIC)[0] == 0


def test_a_default_is_for_each_user_and_for_the_anonymous_together() -> None:
    engine = engine_of(shares=CacheShares({"large": 0.5}, default=0.1))
    for number in range(8):
        for user in ("large", "one", "two", SHARED_ANONYMOUS):
            serve(engine, user, prompt(number, 60))
    sizes = {user: held(engine, user)[0] for user in ("large", "one", "two", SHARED_ANONYMOUS)}
    assert sizes == {"large": 480, "one": 100, "two": 100, SHARED_ANONYMOUS: 100}


def test_the_stats_tell_what_is_allowed() -> None:
    engine = engine_of()
    for user in ("small", "free"):
        serve(engine, user, prompt(1, 90))
    told = stats(engine.cache.core, 10)
    for tier, allowed in (("device", 100), ("host", 200)):
        entries = told[tier]["largest_owners"]
        assert sorted(entry.get("allowed", -1) for entry in entries) == [-1, allowed]


def unlocked(engine: Engine, user: str) -> tuple[int, int]:
    """Tokens of the user's that could be evicted now, on the device and on the host."""
    device = host = 0
    for node in walk(engine.cache.root_node):
        if node.owner != user or node.lock_ref:
            continue
        device += 0 if node.value is None else len(node.value)
        host += len(node.key) if node.value is None else 0
    return device, host


def assert_within(engine: Engine, shares: CacheShares) -> int:
    """The promise, in the words of its documentation. Returns how many owners are at their end."""
    full = 0
    tiers = [POOL, 0]
    if engine.setting.host:
        tiers[1] = engine.cache.token_to_kv_pool_host.size
    for owner in {node.owner for node in walk(engine.cache.root_node)} - {PUBLIC}:
        share = shares.of(owner)
        if share is None:
            continue
        sizes = zip(held(engine, owner), unlocked(engine, owner), tiers, strict=True)
        for size, free, pool in sizes:
            assert size <= share * pool or not free, (owner, size, free, share * pool)
            full += pool > 0 and size > share * pool - 60
    return full


@pytest.mark.parametrize(
    ("host", "policy"), [(False, POLICIES[0]), *((True, policy) for policy in POLICIES)]
)
@pytest.mark.parametrize("seed", range(4))
def test_random_requests_keep_within_their_shares(seed: int, host: bool, policy: str) -> None:
    rng = random.Random(seed)
    shares = CacheShares({"ann": 0.05, "ben": 0.3}, default=0.12 if seed % 2 else None)
    engine = engine_of(host, shares, write_policy=policy, page_size=rng.choice((1, 4)))
    full = 0
    for _ in range(150):
        one_step(engine, rng)
        engine.check()
        full += assert_within(engine, shares)
    assert full > 50  # or it would prove little
    assert engine.cache.core.counts["tokens_over_share"] > 200
    engine.drain()


def one_step(engine: Engine, rng: random.Random) -> None:
    action = rng.choice(["start", "start", "step", "step", "finish", "abort", "land", "land"])
    if action == "land":
        engine.land(rng.randrange(4), rng.randrange(4))
        return
    if action == "start" and len(engine.tasks) < 4:
        tokens = prompt(rng.randrange(6), rng.randrange(10, 150))
        task = engine.new_task(rng.choice(["ann", "ben", "cyn"]), tokens, chunk=64)
        if not engine.admit(task):
            engine.tasks.remove(task)
        return
    if not engine.tasks:
        return
    task = rng.choice(engine.tasks)
    if action == "abort":
        (engine.finish if task.decoding else engine.abort)(task)
    elif action == "finish":
        while not task.decoding and engine.has_room(task.chunk):
            engine.step(task)
        if task.decoding:
            engine.finish(task)
    elif engine.has_room(task.chunk):
        engine.step(task)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_in_ample_memory_only_the_limited_lose_anything(seed: int) -> None:
    """A play that the model follows: pages of users without a share never go."""
    steps = random_steps(random.Random(seed), 500, evictions=False)
    kept_out = {"erase", "flush"}
    shares = CacheShares({"ann": 0.005})
    play = Play(Setting(mode="isolated", shares=shares, page_size=(1, 4)[seed % 2]))
    before: set[Any] = set()
    for step in (step for step in steps if step[0] not in kept_out):
        play.do(step)
        now = {
            (place, owner)
            for place, seen in play.engine.pages().items()
            for owner in seen.owners
            if owner != "ann"
        }
        assert before <= now
        before = now
    assert play.over_share > 50
    play.end()


class Waiting:
    """An order of leaves of one token each, who came by turns."""

    def __init__(self, priority: Callable[[Node], int], sizes: dict[str, int]):
        self.leaves: set[Node] = set()
        self.order = EvictionOrder(
            QUEUED_DEVICE, priority, self.leaves, POOL, EpochCounter(1024), {}
        )
        for moment in range(max(sizes.values())):
            for owner in (owner for owner, size in sizes.items() if moment < size):
                key = RadixKey(array("q", [moment]), Namespace(owner, None))
                node = Node(key, None, moment, 0, 0)
                self.leaves.add(node)
                self.order.resize(node, 1)
                self.order.offer(node)

    def take_of(self, owner: str, number: int) -> list[int]:
        """When those that are taken were last used."""
        moments = []
        for node in islice(self.order.take_of(owner), number):
            self.leaves.remove(node)
            self.order.resize(node, -1)
            moments.append(node.last_access_time)
        return moments


def test_one_owners_leaves_go_in_the_order_of_their_last_use() -> None:
    waiting = Waiting(lambda node: node.last_access_time, {"a": 10, "b": 10})
    touched = next(node for node in waiting.leaves if node.owner == "a" and not node.creation_time)
    touched.last_access_time = 99
    assert waiting.take_of("a", 10) == [*range(1, 10), 99]
    assert sum(waiting.order.sizes.values()) == 10
    # The others' order is as it was.
    assert [node.owner for node in waiting.order.take()] == ["b"] * 10


@pytest.mark.parametrize("number", [100, 10_000])
def test_a_leaf_is_looked_at_once(number: int) -> None:
    """However many there are, of this owner and of others."""
    looks = 0

    def look(node: Node) -> int:
        nonlocal looks
        looks += 1
        return node.last_access_time

    waiting = Waiting(look, {"a": number, "b": number})
    looks = 0
    assert len(waiting.take_of("a", 50)) == 50
    assert looks == 50


def test_a_tree_without_shares_has_no_quota() -> None:
    for shares in (None, CacheShares()):
        tree = Tree(ours=True, device_tokens=100, shares=shares)
        assert tree.cache.core.quota.shares is None
        assert tree.cache.core.device.order.quota is tree.cache.core.host.order.quota is None


def messages(capacity: int, page: int, shares: Sequence[CacheShares]) -> list[str]:
    found = []
    for share in shares:
        with pytest.raises(ValueError, match="cache_share") as refused:
            share.check(capacity, page)
        found.append(str(refused.value))
    return found


def test_a_share_of_less_than_a_page_is_refused() -> None:
    alice, default = messages(
        1000, 64, [CacheShares({"alice": 0.01}), CacheShares({"alice": 1.0}, default=0.06)]
    )
    assert alice.startswith("--tenant-config: users.alice.cache_share: 0.01 of 1000 tokens")
    assert "give at least 0.064" in alice
    assert default.startswith("--tenant-config: default.cache_share: 0.06")
    CacheShares({"alice": 0.064}, default=1.0).check(1000, 64)
