"""The policy as a whole: a tree, who is public in it, who is evicted, what is freed and when.

One object for one life of the cache, from a flush to the next. An adapter makes it and calls it;
tests and simulations do so with memory of their own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from sglang.srt.tenancy.cache.core.changes import RecentChanges
from sglang.srt.tenancy.cache.core.check import check_tree
from sglang.srt.tenancy.cache.core.deferred_free import DeviceFrees, HostFrees
from sglang.srt.tenancy.cache.core.erasure import Erased, Eraser, StoredPages
from sglang.srt.tenancy.cache.core.evictor import DeviceEvictor, HostEvictor
from sglang.srt.tenancy.cache.core.hits import HitCounter
from sglang.srt.tenancy.cache.core.idle import IdleExpiry, LastUse
from sglang.srt.tenancy.cache.core.interfaces import BlockEvents, KeyType, Memory, Transfers
from sglang.srt.tenancy.cache.core.join import ChainJoiner
from sglang.srt.tenancy.cache.core.merge import Merger
from sglang.srt.tenancy.cache.core.node import QUEUED_DEVICE, QUEUED_HOST, Node
from sglang.srt.tenancy.cache.core.options import PolicyOptions
from sglang.srt.tenancy.cache.core.order import EvictionOrder
from sglang.srt.tenancy.cache.core.quota import CacheShares
from sglang.srt.tenancy.cache.core.quota_enforcer import QuotaEnforcer
from sglang.srt.tenancy.cache.core.sharing import SharingPolicy
from sglang.srt.tenancy.cache.core.sharing_memory import SharingMemory
from sglang.srt.tenancy.cache.core.tier import DeviceTier, HostTier, NoHostTier
from sglang.srt.tenancy.cache.core.tree import Path, PrefixTree
from sglang.srt.tenancy.cache.core.window import EpochCounter
from sglang.srt.tenancy.user_id import account_name


class Lasting:
    """What outlives a flush of the cache: time, counts, and what is known of content and owners.

    ``secret``: as ``VoteBudget`` has it."""

    def __init__(self, page_size: int, options: PolicyOptions, secret: bytes = b""):
        self.counts: Counter[str] = Counter(logical_frees=0)
        self.changes = RecentChanges()
        self.clock = EpochCounter(options.epoch_requests)
        self.sharing = SharingMemory(page_size, options, secret)
        self.last_use = LastUse(options.idle_ttl) if options.idle_ttl else None


@dataclass(frozen=True, slots=True)
class TierSize:
    """``capacity``: tokens. ``leaves``: the set in which the evictable leaves are kept."""

    capacity: int
    leaves: set[Node]


@dataclass(frozen=True, slots=True)
class Engine:
    """What an adapter brings. ``priority``: of a leaf; smaller is evicted first. ``empty``: no
    slots. ``host``: None without a host tier."""

    page_size: int
    new_key: KeyType
    empty: Any
    root_priority: int
    priority: Callable[[Any], Any]
    device: TierSize
    host: TierSize | None
    memory: Memory
    transfers: Transfers
    events: BlockEvents
    storage: StoredPages


class OwnedCache:
    """``weights``: owner -> weight, 1 for whoever is missing. ``shares``: the most that each owner
    may hold of a tier. ``new_order``: makes the eviction order of a tier."""

    def __init__(
        self,
        engine: Engine,
        options: PolicyOptions,
        lasting: Lasting,
        weights: Mapping[str, float],
        shares: CacheShares | None = None,
        new_order: Callable[..., EvictionOrder] = EvictionOrder,
    ):
        self.page_size = engine.page_size
        self.clock = clock = lasting.clock
        self.selective = options.selective
        order = new_order(
            QUEUED_DEVICE,
            engine.priority,
            engine.device.leaves,
            engine.device.capacity,
            clock,
            weights,
            shares or None,
        )
        self.device = DeviceTier(order, engine.device.leaves)
        self.host: HostTier | None = None
        if engine.host is not None:
            order = new_order(
                QUEUED_HOST,
                engine.priority,
                engine.host.leaves,
                engine.host.capacity,
                clock,
                weights,
                shares or None,
            )
            self.host = HostTier(order, engine.host.leaves)
        self.orders = [tier.order for tier in (self.device, self.host) if tier is not None]
        joiner = ChainJoiner(engine.priority, self.orders) if options.join_chains else None
        self.device_frees = DeviceFrees(engine.memory, self.unlock, options.batches_ahead)
        self.host_frees = HostFrees(engine.memory, engine.transfers.under_way)
        self.tree = PrefixTree(
            page_size=engine.page_size,
            clock=clock,
            new_key=engine.new_key,
            empty=engine.empty,
            root_priority=engine.root_priority,
            memory=engine.memory,
            device=self.device,
            host=self.host or NoHostTier(),
            device_frees=self.device_frees,
            host_frees=self.host_frees,
            transfers=engine.transfers,
            events=engine.events,
            joiner=joiner,
            counts=lasting.counts,
            changes=lasting.changes,
        )
        self.counts = lasting.counts
        self.changes = lasting.changes
        self.hits = HitCounter(self.tree, clock, self.orders)
        merger = Merger(self.tree, clock, self.hits)
        self.sharing = SharingPolicy(self.tree, clock, merger, lasting.sharing, options)
        self.evictor = DeviceEvictor(self.tree)
        self.host_evictor = HostEvictor(self.tree, self.host) if self.host else None
        evictors = [one for one in (self.evictor, self.host_evictor) if one is not None]
        self.quota = QuotaEnforcer(evictors, engine.page_size, weights, shares or None, self.counts)
        self.eraser = Eraser(self.tree, self.orders, engine.storage)
        self.idle = IdleExpiry(self.tree, self.eraser, lasting.last_use)

    # What a request asks for

    def whole_pages(self, key: Any) -> int:
        return len(key) // self.page_size * self.page_size

    def match(self, key: Any) -> tuple[list[Any], Node]:
        """As ``PrefixTree.match``, of all the key's whole pages."""
        return self.tree.match(key, self.whole_pages(key))

    def insert(
        self, key: Any, slots: Any, priority: int = 0, chunked: bool = False
    ) -> tuple[int, Node]:
        """As ``PrefixTree.insert``, of all the key's whole pages."""
        inserted = self.tree.insert(key, self.whole_pages(key), slots, priority, chunked)
        self.quota.enforce()
        return inserted

    def visible_on_device(self, path: Path) -> tuple[int, Node]:
        """Count a path's tokens that are on the device, and find the last node that is wholly
        among them."""
        nodes, _, partial, shared = path
        at, last = 0, self.tree.root
        for node in nodes:
            if node.value is None:
                return at, last
            at += len(node.key)
            last = node
        if partial is not None and partial.value is not None:
            at += shared
        return at, last

    def count_request(
        self, user: str | None, last: Node, inserted: Any | None, counted: int | None
    ) -> int:
        """Count a request on its path, and let what it inserted become public, or what it hit
        private.

        ``last``: where its path ends. ``inserted``: the key, if that may be a reason to make
        anything public. ``counted``: what this returned last for the request, None the first time:
        the scheduler comes here many times for a request, and each node hears of it once.
        """
        if counted is None:
            self.hits.admit(user or "")
        now_counted = self.hits.count_path(last, account_name(user), counted or 0)
        if self.selective:
            if inserted is not None:
                self.sharing.note_insertion(inserted, last)
            if counted is None:
                self.sharing.note_request(last)
        self.idle.note_use(user)
        return now_counted

    def lock(self, node: Node) -> int:
        """As ``PrefixTree.lock``."""
        return self.tree.lock(node)

    def unlock(self, node: Node) -> int:
        """As ``PrefixTree.unlock``; what is unlocked may go at once for its owner's share."""
        delta = self.tree.unlock(node)
        self.quota.enforce()
        return delta

    # What operators and detectors ask for

    def publish(self, tokens: Any) -> None:
        """As ``SharingPolicy.publish``."""
        self.sharing.publish(tokens)

    def withdraw(self, tokens: Any) -> None:
        """As ``SharingPolicy.withdraw``; what ceases to be public counts for its owner again."""
        self.sharing.withdraw(tokens)
        self.quota.enforce()

    def apply_scan_result(self, key: Any, harmless: int, sensitive: int | None) -> None:
        """As ``SharingPolicy.apply_scan_result``; what is merged away unlocks what was below."""
        self.sharing.apply_scan_result(key, harmless, sensitive)
        self.quota.enforce()

    def erase(self, user: str) -> Erased:
        """As ``Eraser.erase``."""
        self.idle.drop(user)
        self.sharing.forget(user)
        return self.eraser.erase(user)

    def protected_size(self) -> int:
        """Count the device tokens that are locked, or wait to be freed."""
        logical = self.tree.logical
        waiting = logical.tokens() if logical.freed else 0
        return self.device.protected + waiting + self.device_frees.tokens

    def sanity_check(self) -> None:
        """Raise AssertionError where an invariant does not hold."""
        check_tree(self.tree)
