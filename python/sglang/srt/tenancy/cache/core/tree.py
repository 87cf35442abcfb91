"""The tree: whose child a prefix leads to, paths, cuts and locks.

Private and public nodes are in one tree. A node's ``key.extra_key`` is a ``Namespace`` if it is
private and the engine's own extra key if it is public, and both kinds are in the same ``children``
by ``child_key``, so a private child cannot be met by a stranger: its key has another owner in it.
Below a public node and for one first page there is either one public child or any number of private
ones, so a user has at most one way to go.
"""

from __future__ import annotations

from array import array
from collections import Counter
from itertools import pairwise
from typing import Any

from sglang.srt.tenancy.cache.core.changes import RecentChanges
from sglang.srt.tenancy.cache.core.child_index import ChildIndex
from sglang.srt.tenancy.cache.core.deferred_free import DeviceFrees, HostFrees
from sglang.srt.tenancy.cache.core.interfaces import BlockEvents, KeyType, Memory, Transfers
from sglang.srt.tenancy.cache.core.join import ChainJoiner
from sglang.srt.tenancy.cache.core.logical_free import LogicalFrees
from sglang.srt.tenancy.cache.core.node import (
    EARNED,
    JOINED,
    NO_PROMOTE,
    REGISTERED,
    SCANNED_CLEAN,
    Node,
)
from sglang.srt.tenancy.cache.core.owner_index import OwnerIndex
from sglang.srt.tenancy.cache.core.tier import DeviceTier, HostTier, NoHostTier
from sglang.srt.tenancy.cache.core.tokens import common_prefix
from sglang.srt.tenancy.cache.core.window import EpochCounter
from sglang.srt.tenancy.namespace import Namespace

# Nodes whose tokens all match, the tokens up to the last one's end, the child that matches in part
# only, and how many of its tokens match, in whole pages.
Path = tuple[list[Node], int, Node | None, int]


class PrefixTree:
    """Match, insert, cut and lock; told where the slots are by the engine's objects.

    ``root_priority``: lower than any request's. ``joiner``: None where chains stay as they are.
    ``counts``, ``changes``: what happens in the tree, for operators.
    """

    def __init__(
        self,
        *,
        page_size: int,
        clock: EpochCounter,
        new_key: KeyType,
        empty: Any,
        root_priority: int,
        memory: Memory,
        device: DeviceTier,
        host: HostTier | NoHostTier,
        device_frees: DeviceFrees,
        host_frees: HostFrees,
        transfers: Transfers,
        events: BlockEvents,
        joiner: ChainJoiner | None,
        counts: Counter[str],
        changes: RecentChanges,
    ):
        self.page_size = page_size
        self.clock = clock
        self.new_key = new_key
        self.memory = memory
        self.device = device
        self.host = host
        self.device_frees = device_frees
        self.host_frees = host_frees
        self.transfers = transfers
        self.events = events
        self.owners = OwnerIndex()
        self.index = ChildIndex(page_size, self.owners)
        self.logical = LogicalFrees(self, counts)
        self.changes = changes
        self._joiner = joiner
        root = Node(new_key(array("q"), None), None, clock.tick(), 0, root_priority)
        root.value = root.host_value = empty
        root.hash_value = []
        root.lock_ref = 1
        self.root = root

    # Paths

    def walk_path(self, key: Any, end: int, start: Node | None = None, at: int = 0) -> Path:
        """Follow the key's first ``end`` tokens (whole pages) as far as its owner may see.

        ``start``: the node at which its first ``at`` tokens end. Changes nothing.
        """
        tokens: array[int] = key.token_ids
        namespace = key.extra_key
        owned = type(namespace) is Namespace
        plain = namespace.extra_key if owned else namespace
        page = self.page_size
        node: Node = start or self.root
        nodes: list[Node] = []
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
            stored = child.key.token_ids
            shared = common_prefix(stored, tokens, at, end)
            if shared < len(stored):
                return nodes, at, child, shared // page * page
            nodes.append(child)
            node = child
            at += shared
        return nodes, at, None, 0

    def child_of(self, node: Node, key: Any, at: int) -> Node | None:
        """Find the child in which the key, whose first ``at`` tokens end at the node, goes on."""
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

    def cut(self, key: Any, end: int, start: Node | None = None, at: int = 0) -> list[Node]:
        """Return the nodes of the key's tokens from ``at`` to ``end``, none longer than that."""
        nodes, _, partial, shared = self.walk_path(key, end, start, at)
        if partial is not None:
            nodes.append(self.split(partial, shared))
        return nodes

    def depth(self, node: Node) -> int:
        """Count the tokens from the root to the end of a node."""
        depth = 0
        while node.parent is not None:
            depth += len(node.key)
            node = node.parent
        return depth

    def public_depth(self, node: Node) -> int:
        """Count the tokens from the root to the end of the last public node above, or of itself."""
        while node.owner and node.parent is not None:
            node = node.parent
        return self.depth(node)

    def slots_down_to(self, node: Node) -> list[Any]:
        """Collect the device slots from the root to the end of a node, in parts."""
        values = []
        while node.parent is not None:
            values.append(node.value)
            node = node.parent
        values.reverse()
        return values

    # Match and insert

    def match(self, key: Any, end: int) -> tuple[list[Any], Node]:
        """Find the longest prefix of the key's first ``end`` tokens that its owner may see.

        Returns its device slots, in parts, and the node in which it ends, on any tier. May split
        that node, and joins chains on the way.
        """
        nodes, _, partial, shared = self.walk_path(key, end)
        clock, last, values = self.clock, self.root, []
        moment = clock.ticks + 1  # clock.tick(), written out
        last.last_access_time = moment
        for last in nodes:
            moment += 1
            last.last_access_time = moment
            if last.value is not None:
                values.append(last.value)
        clock.ticks = moment
        if len(nodes) > 1 and nodes[-2].owner:
            self._join_chain(nodes)
        if partial is not None:
            partial.last_access_time = clock.tick()
            last = self.split(partial, shared)
            if last.value is not None:
                values.append(last.value)
        return values, last

    def _join_chain(self, nodes: list[Node]) -> None:
        """Join the nodes of a path that need not be apart."""
        joiner = self._joiner
        if joiner is None:
            return
        for node, child in pairwise(nodes):
            if node.owner and len(node.children) == 1 and joiner.may_join(node, child):
                joiner.join(self, node, child)

    def insert(
        self,
        key: Any,
        end: int,
        slots: Any,
        priority: int = 0,
        chunked: bool = False,
        no_promote: bool = False,
        path: Path | None = None,
    ) -> tuple[int, Node]:
        """Put the key's first ``end`` tokens into the tree.

        ``slots``: one a token. ``path``: what ``walk_path`` returned just now. Returns how many
        tokens were on the device already, whose given slots are the caller's to free, and the last
        node.
        """
        tick = self.clock.tick
        node = self.root
        node.last_access_time = tick()
        if priority > node.priority:
            node.priority = priority
        nodes, at, partial, shared = path or self.walk_path(key, end)
        if partial is not None:
            partial.last_access_time = tick()
            nodes.append(self.split(partial, shared))
            at += shared
        held = start = 0
        for node in nodes:
            size = len(node.key)
            node.last_access_time = tick()
            if priority > node.priority:
                node.priority = priority
            if not no_promote:
                node.state &= ~NO_PROMOTE
            if node.value is None:
                self._refill(node, slots[start : start + size])
            else:
                held += size
                self.transfers.record_hit(node, chunked)
            start += size
        if at < end:
            node = self._grow(node, key[at:end], slots[at:end], priority, chunked)
            if no_promote:
                node.state |= NO_PROMOTE
        return held, node

    def _refill(self, node: Node, slots: Any) -> None:
        """Give device slots to a node that only the host had, and that was computed again."""
        node.value = self.memory.copy(slots)
        self.device.evictable += len(slots)
        self.device.update(node)
        assert node.parent is not None
        self.device.update(node.parent)
        self.host.update(node)

    def _grow(self, parent: Node, key: Any, slots: Any, priority: int, chunked: bool) -> Node:
        leaf = Node(key, parent, self.clock.tick(), self.clock.epoch, priority)
        leaf.value = self.memory.copy(slots)
        self.index.attach(leaf, parent)
        self.device.evictable += len(slots)
        self.device.update(leaf)
        self.device.update(parent)
        self.events.created(leaf)
        self.transfers.record_hit(leaf, chunked)
        return leaf

    def grow_on_host(self, parent: Node, key: Any, slots: Any) -> Node:
        """Add a leaf that only the host has: it came from storage."""
        leaf = Node(key, parent, self.clock.tick(), self.clock.epoch, parent.priority)
        leaf.host_value = self.memory.copy(slots)
        leaf.state |= NO_PROMOTE  # until its owner's requests come by
        self.index.attach(leaf, parent)
        self.host.update(leaf)
        self.device.update(parent)
        self.host.update(parent)
        self.events.created(leaf)
        return leaf

    def split(self, child: Node, tokens: int) -> Node:
        """Cut a node in two after ``tokens`` tokens (whole pages); the new one is the upper."""
        parent = child.parent
        assert parent is not None
        upper = Node(child.key[:tokens], parent, self.clock.tick(), child.epoch, child.priority)
        upper.hit_count = child.hit_count
        upper.lock_ref = child.lock_ref
        if child.owner:  # a public one counts as new, as upstream's does
            upper.creation_time = child.creation_time
        upper.hit_cur, upper.hit_pre = child.hit_cur, child.hit_pre
        upper.asked_again = child.asked_again
        kept = NO_PROMOTE | EARNED | SCANNED_CLEAN | JOINED | REGISTERED
        upper.state = child.state & kept
        if child.stats is not None:
            child.stats.copy_to(upper.ensure_stats())
        self._split_slots(upper, child, tokens)
        self.events.split(upper, child, tokens)
        self.index.attach(upper, parent)  # in the place of the child: same first page
        child.key = child.key[tokens:]
        child.parent = upper
        self.index.attach(child, upper)
        if child.host_value is not None:
            self.transfers.split(upper, child)
            if child.host_ref_counter:  # the transfer reads both parts, and knows of one
                self.host_frees.protect(upper)
        return upper

    def _split_slots(self, upper: Node, child: Node, tokens: int) -> None:
        copy = self.memory.copy
        if child.value is not None:
            upper.value, child.value = copy(child.value[:tokens]), copy(child.value[tokens:])
            if child.device_held:
                upper.device_held, upper.device_children = tokens, 1
                child.device_held -= tokens
        if child.host_value is not None:
            upper.host_value = copy(child.host_value[:tokens])
            child.host_value = copy(child.host_value[tokens:])
            if child.host_held:
                upper.host_held, upper.host_children = tokens, 1
                child.host_held -= tokens

    # Scope and locks

    def change_scope(self, node: Node, before: str) -> None:
        """Index a node, which was detached and has another owner now, and its children anew."""
        parent = node.parent
        assert parent is not None
        self.index.attach(node, parent)
        for child in node.children.values():
            self.index.attach(child, node)
        self.device.change_owner(node, before)
        self.host.change_owner(node, before)
        self.events.announce(node)

    def lock(self, node: Node) -> int:
        """Keep a node and all above it from eviction. Returns by how many tokens less are
        evictable, as a number of 0 or less."""
        delta = 0
        walker: Node = node
        while walker is not self.root:
            if not walker.lock_ref:
                delta -= self.logical.protect(walker)
            walker.lock_ref += 1
            assert walker.parent is not None, "this node is of another tree"
            walker = walker.parent
        return delta

    def unlock(self, node: Node) -> int:
        """Give back one ``lock`` of the same node. Returns how many tokens more are evictable."""
        delta = 0
        walker: Node = node
        while walker is not self.root:
            above = walker.parent
            assert above is not None, "this node is of another tree"
            walker.lock_ref -= 1
            if not walker.lock_ref:
                delta += self.logical.unprotect(walker)
            walker = above
        return delta
