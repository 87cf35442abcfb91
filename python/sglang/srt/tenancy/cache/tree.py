"""The tree: whose child a prefix leads to, what is counted for whom, and what is locked.

Private and public nodes hang in one tree. A node's ``key.extra_key`` is a ``Namespace`` if it
is private and upstream's own extra key if it is public, so both kinds live in the same
``children`` under upstream's ``child_key``, and a private child cannot be met by a stranger:
its key has another owner in it. Below a public node and for one first page there is either
one public child or any number of private ones, so a user has at most one way to go.
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch

from sglang.srt.mem_cache.base_prefix_cache import (
    DecLockRefParams,
    DecLockRefResult,
    IncLockRefResult,
    InsertParams,
    InsertResult,
    MatchPrefixParams,
    MatchResult,
)
from sglang.srt.mem_cache.radix_cache import RadixCache, RadixKey
from sglang.srt.mem_cache.utils import split_node_hash_value
from sglang.srt.tenancy.cache.core.node import (
    EARNED,
    JOINED,
    NEVER,
    NO_PROMOTE,
    QUEUED_DEVICE,
    REGISTERED,
    SCANNED_CLEAN,
    UNCOUNTED,
    Node,
)
from sglang.srt.tenancy.cache.core.order import EvictionOrder
from sglang.srt.tenancy.cache.core.owner_index import OwnerIndex
from sglang.srt.tenancy.cache.core.quota import CacheShares
from sglang.srt.tenancy.cache.core.window import Clock
from sglang.srt.tenancy.namespace import Namespace

if TYPE_CHECKING:
    from sglang.srt.mem_cache.cache_init_params import CacheInitParams
    from sglang.srt.tenancy.cache.adapters.hiradix.zeroize import Zeroizer
    from sglang.srt.tenancy.flags import TenantOptions


class OwnedTree(RadixCache):
    """Match, insert, split, lock; sizes per owner. Goes before any of upstream's radix caches."""

    root_node: Node
    zeroizer: Zeroizer | None = None

    def __init__(
        self,
        params: CacheInitParams,
        options: TenantOptions,
        weights: Mapping[str, float],
        shares: CacheShares | None = None,
        **upstream: Any,
    ):
        self.options = options
        self.weights = weights  # owner -> weight
        self.shares = shares or None  # of owners who may not hold all that they could
        super().__init__(params=params, **upstream)

    def reset(self) -> None:
        super().reset()
        if not hasattr(self, "clock"):  # it goes on after a flush of the cache
            self.clock = Clock(self.options.tenant_epoch_requests)
        self.device_order = self._new_order(QUEUED_DEVICE, self.token_to_kv_pool_allocator)
        self.owner_index = OwnerIndex()
        root = Node(RadixKey(array("q"), None), None, self.clock.tick(), 0, self.root_node.priority)
        root.value = root.host_value = torch.empty(0, dtype=torch.int64, device=self.device)
        root.hash_value = []
        root.lock_ref = 1
        self.root_node = root
        self._empty_match_result: MatchResult = self._empty_match_result._replace(
            last_device_node=root, last_host_node=root, best_match_node=root
        )

    def _new_order(self, queued: int, pool: Any) -> EvictionOrder:
        device = queued == QUEUED_DEVICE
        return EvictionOrder(
            queued,
            self.eviction_strategy.get_priority,
            self.evictable_leaves if device else self.evictable_host_leaves,
            pool.size,
            self.clock,
            self.weights,
            self.shares,
        )

    # Finding and inserting

    def match_prefix(self, params: MatchPrefixParams) -> MatchResult:
        """The longest prefix of the key that its owner may see, on all tiers.

        May split the node it ends in, and what it passes may be tidied up (``_tidy``).
        """
        end = len(params.key) // self.page_size * self.page_size
        if self.disable or not end:
            return self._empty_match_result
        values, node = self._descend(params.key, end)
        indices = torch.cat(values) if values else self._empty_match_result.device_indices
        return self._matched(indices, node)

    def _matched(self, indices: torch.Tensor, node: Node) -> MatchResult:
        return MatchResult(
            device_indices=indices,
            last_device_node=node,
            last_host_node=node,
            best_match_node=node,
        )

    def _descend(self, key: RadixKey, end: int) -> tuple[list[torch.Tensor], Node]:
        """Walk as far as the owner may; the device slots on the way, and the last node."""
        tokens: array[int] = key.token_ids
        namespace = key.extra_key
        owned = type(namespace) is Namespace
        plain = namespace.extra_key if owned else namespace
        page, tick = self.page_size, self.clock.tick
        node: Node = self.root_node
        node.last_access_time = tick()
        values: list[torch.Tensor] = []
        at = 0
        while at < end:
            # child_of(), written out: this is the hottest loop of the cache.
            first: Any = tokens[at] if page == 1 else tuple(tokens[at : at + page])
            child = None
            if not node.owner:
                child = node.children.get(first if plain is None else (plain, first))
            if child is None:
                child = node.children.get((namespace, first)) if owned else None
                if child is None:
                    break
            child.last_access_time = tick()
            stored = child.key.token_ids
            shared = common_prefix(stored, tokens, at, end)
            if shared < len(stored):
                node = self._split_node(child.key, child, shared // page * page)
                if node.value is not None:
                    values.append(node.value)
                break
            if child.value is not None:
                values.append(child.value)
            if node.owner and len(node.children) == 1:
                self._tidy(node, child)
            node = child
            at += shared
        return values, node

    def child_of(self, node: Node, key: RadixKey, at: int) -> Node | None:
        """The child in which the key, whose first ``at`` tokens end at the node, goes on."""
        tokens, namespace = key.token_ids, key.extra_key
        first: Any = tokens[at] if self.page_size == 1 else tuple(tokens[at : at + self.page_size])
        if type(namespace) is not Namespace:
            return node.children.get(first if namespace is None else (namespace, first))
        if not node.owner:
            plain = namespace.extra_key
            public = node.children.get(first if plain is None else (plain, first))
            if public is not None:
                return public
        return node.children.get((namespace, first))

    def _tidy(self, node: Node, child: Node) -> None:
        """A match passed a private node and its only child, and needs the boundary no more."""

    def insert(self, params: InsertParams) -> InsertResult:
        """Put a computed prefix into the tree, for the owner that its key names.

        ``value``: device slots, int64, at least one for each token of whole pages.
        ``prefix_len`` of the result: tokens that were on the device already; the slots given
        for them are the caller's to free.
        """
        if self.disable:
            return InsertResult(prefix_len=0)
        end = len(params.key) // self.page_size * self.page_size
        held, node = self._place(
            params.key, end, params.value, params.priority or 0, params.chunked
        )
        return InsertResult(prefix_len=held, last_device_node=node)

    def _place(
        self,
        key: RadixKey,
        end: int,
        slots: torch.Tensor,
        priority: int = 0,
        chunked: bool = False,
        no_promote: bool = False,
    ) -> tuple[int, Node]:
        """Insert the first ``end`` tokens: how many were on the device, and their last node."""
        tokens: array[int] = key.token_ids
        page, tick = self.page_size, self.clock.tick
        node: Node = self.root_node
        node.last_access_time = tick()
        if priority > node.priority:
            node.priority = priority
        at = held = 0
        while at < end:
            child = self.child_of(node, key, at)
            if child is None:
                break
            child.last_access_time = tick()
            stored = child.key.token_ids
            shared = common_prefix(stored, tokens, at, end)
            if shared < len(stored):
                shared = shared // page * page
                child = self._split_node(child.key, child, shared)
            if priority > child.priority:
                child.priority = priority
            if not no_promote:
                child.state &= ~NO_PROMOTE
            if child.value is None:
                self._refill(child, slots[at : at + shared])
            else:
                held += shared
                self._inc_hit_count(child, chunked)
            node = child
            at += shared
        if at < end:
            node = self._grow(node, key[at:end], slots[at:end], priority, chunked)
            if no_promote:
                node.state |= NO_PROMOTE
        return held, node

    def _refill(self, node: Node, slots: torch.Tensor) -> None:
        """A node that only the host had was computed again."""
        node.value = slots.clone()
        self.evictable_size_ += len(slots)
        self._update_leaf_status(node)
        assert node.parent is not None
        self._update_leaf_status(node.parent)

    def _grow(
        self, parent: Node, key: RadixKey, slots: torch.Tensor, priority: int, chunked: bool
    ) -> Node:
        """A new leaf."""
        leaf = Node(key, parent, self.clock.tick(), self.clock.epoch, priority)
        leaf.value = slots.clone()
        self._attach(leaf, parent)
        self.evictable_size_ += len(slots)
        self._update_leaf_status(leaf)
        self._update_leaf_status(parent)
        self._record_store_event(leaf)
        self._inc_hit_count(leaf, chunked)
        return leaf

    def _split_node(self, key: RadixKey, child: Node, split_len: int) -> Node:
        """Cut a node in two; the new one is the upper part. ``split_len``: whole pages."""
        parent = child.parent
        assert parent is not None
        upper = Node(child.key[:split_len], parent, self.clock.tick(), child.epoch, child.priority)
        upper.hit_count = child.hit_count
        upper.lock_ref = child.lock_ref
        if child.owner:  # a public one counts as new, as upstream's does
            upper.creation_time = child.creation_time
        upper.hit_cur, upper.hit_pre = child.hit_cur, child.hit_pre
        upper.asked_again = child.asked_again
        kept = NO_PROMOTE | EARNED | SCANNED_CLEAN | JOINED | REGISTERED
        upper.state = child.state & kept
        if child.stats is not None:
            stats = upper.ensure_stats()
            stats.first_owner, stats.u_pre = (
                child.stats.first_owner,
                child.stats.u_pre,
            )
            stats.users = set(child.stats.users)
        if child.value is not None:
            upper.value = child.value[:split_len].clone()
            child.value = child.value[split_len:].clone()
            if child.device_held:
                upper.device_held, upper.device_children = split_len, 1
                child.device_held -= split_len
        if child.host_value is not None:
            upper.host_value = child.host_value[:split_len].clone()
            child.host_value = child.host_value[split_len:].clone()
            if child.host_held:
                upper.host_held, upper.host_children = split_len, 1
                child.host_held -= split_len
        upper.hash_value, child.hash_value = split_node_hash_value(
            child.hash_value, split_len, self.page_size
        )
        self._attach(upper, parent)  # in the place of the child: same first page
        child.key = child.key[split_len:]
        child.parent = upper
        self._attach(child, upper)
        return upper

    # The index: children by key, and for public nodes the private children by first page

    def _attach(self, node: Node, parent: Node) -> None:
        key = node.key.child_key(self.page_size)
        self.owner_index.add(node, parent, parent.children.get(key))
        parent.children[key] = node
        if node.owner and not parent.owner:
            stats = parent.ensure_stats()
            if stats.candidates is None:
                stats.candidates = {}
            stats.candidates.setdefault(public_key(key), {})[node.owner] = node

    def _detach(self, node: Node) -> None:
        parent = node.parent
        assert parent is not None
        key = node.key.child_key(self.page_size)
        found = parent.children.pop(key, None)
        assert found is node, f"node {node.id} is no child of its parent"
        self.owner_index.remove(node)
        if node.owner and not parent.owner:
            owners = self._candidates(node, parent)
            del owners[node.owner]
            if not owners:
                assert parent.stats is not None
                assert parent.stats.candidates is not None
                del parent.stats.candidates[public_key(key)]

    def _candidates(self, node: Node, parent: Node) -> dict[str, Node]:
        """All private children of a public parent with this child's first page, by owner."""
        assert parent.stats is not None
        assert parent.stats.candidates is not None
        return parent.stats.candidates[public_key(node.key.child_key(self.page_size))]

    def _delete_leaf(self, node: Node) -> None:
        """Take a leaf out of the tree; its slots were given back."""
        parent = node.parent
        assert parent is not None
        self._detach(node)
        self.evictable_size_ -= len(node.key)
        self.evictable_leaves.discard(node)
        self._uncount_device(node)
        self._update_leaf_status(parent)

    # Sizes and evictable leaves

    def _update_leaf_status(self, node: Node) -> None:
        """Count what changed about a node, and queue it if it may be evicted from now on."""
        value = node.value
        if (value is None) != (node.device_held == 0):
            if value is None:
                self._uncount_device(node)
            elif node.parent is not None:  # the root holds nothing
                node.device_held = len(value)
                self.device_order.resize(node, node.device_held)
                node.parent.device_children += 1
        if value is None or node.lock_ref or node.device_children:
            self.evictable_leaves.discard(node)
        else:
            self.evictable_leaves.add(node)
            if not node.state & QUEUED_DEVICE:
                self.device_order.offer(node)

    def _uncount_device(self, node: Node) -> None:
        if node.device_held:
            self.device_order.resize(node, -node.device_held)
            node.device_held = 0
            assert node.parent is not None
            node.parent.device_children -= 1

    # Requests and hits

    def _admit(self, user: str) -> None:
        if self.clock.admit(user):
            for order in self._orders():
                order.come_back(user)

    def _orders(self) -> list[EvictionOrder]:
        """The orders of all tiers."""
        return [self.device_order]

    def _count(self, node: Node, user: str) -> None:
        """One admitted request passes a node: the one it came with, or a later one."""
        self.clock.count(node, user)
        if node.asked_again == UNCOUNTED:
            node.asked_again = NEVER
        else:
            self._ask_again(node)

    def _ask_again(self, node: Node) -> None:
        """Note that a later request came for a node, which has a claim to stay (``order.py``)."""
        if node.asked_again != self.clock.epoch:
            self.device_order.ask_again(node, node.device_held)
            node.asked_again = self.clock.epoch

    # Locks

    def inc_lock_ref(self, node: Node) -> IncLockRefResult:
        """Keep a node and all above it from eviction."""
        delta = 0
        walker: Node = node
        while walker is not self.root_node:
            if not walker.lock_ref:
                delta -= self._protect(walker)
            walker.lock_ref += 1
            assert walker.parent is not None, "this node is of another tree"
            walker = walker.parent
        return IncLockRefResult(delta=delta)

    def dec_lock_ref(self, node: Node, params: DecLockRefParams | None = None) -> DecLockRefResult:
        """Give back one ``inc_lock_ref`` of the same node."""
        delta = 0
        walker: Node = node
        while walker is not self.root_node:
            above = walker.parent
            assert above is not None, "this node is of another tree"
            walker.lock_ref -= 1
            if not walker.lock_ref:
                delta += self._unprotect(walker)
            walker = above
        return DecLockRefResult(delta=delta)

    def _protect(self, node: Node) -> int:
        """The first lock takes a node; returns the tokens that ceased to be evictable."""
        size = len(node.key)
        self.evictable_size_ -= size
        self.protected_size_ += size
        self.evictable_leaves.discard(node)
        return size

    def _unprotect(self, node: Node) -> int:
        """The last lock left a node."""
        size = len(node.key)
        self.evictable_size_ += size
        self.protected_size_ -= size
        self._update_leaf_status(node)
        return size


def public_key(child_key: Any) -> Any:
    """The key that a public node with the same first page has."""
    namespace, first = child_key
    plain = namespace.extra_key
    return first if plain is None else (plain, first)


def common_prefix(stored: array[int], tokens: array[int], at: int, end: int) -> int:
    """How many first tokens of ``stored`` equal ``tokens[at:end]``."""
    length = min(len(stored), end - at)
    low, step = 0, 32
    while low < length:
        high = min(low + step, length)
        if stored[low:high] != tokens[at + low : at + high]:
            while high - low > 1:  # equal before low, different before high
                middle = (low + high) // 2
                if stored[low:middle] == tokens[at + low : at + middle]:
                    low = middle
                else:
                    high = middle
            return low
        low = high
        step *= 4
    return length
