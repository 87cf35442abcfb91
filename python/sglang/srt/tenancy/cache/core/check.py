"""Check the tree's invariants, and compare ranks."""

from __future__ import annotations

import hashlib
from typing import Any

from sglang.srt.tenancy.cache.core.child_index import public_key
from sglang.srt.tenancy.cache.core.node import LOGICALLY_FREED, PUBLIC, Node, walk
from sglang.srt.tenancy.cache.core.order import EvictionOrder
from sglang.srt.tenancy.cache.core.tier import DeviceTier, HostTier
from sglang.srt.tenancy.cache.core.tree import PrefixTree
from sglang.srt.tenancy.namespace import Namespace


def check_tree(tree: PrefixTree) -> None:
    """Raise AssertionError where an invariant does not hold."""
    _check_scopes(tree)
    tree.owners.check(tree.root)
    for node in walk(tree.root):
        _check_node(tree, node)
    _check_device(tree, tree.device)
    if isinstance(tree.host, HostTier):
        _check_host(tree, tree.host)


def _check_scopes(tree: PrefixTree) -> None:
    """Below a private node all nodes have its owner; nobody has two ways to go."""
    for node in (tree.root, *walk(tree.root)):
        waiting: dict[Any, dict[str, Node]] = {}
        for key, child in node.children.items():
            assert child.parent is node
            assert key == tree.index.child_key(child)
            extra = child.key.extra_key
            assert child.owner == (extra.owner if type(extra) is Namespace else PUBLIC)
            assert not node.owner or child.owner == node.owner
            if child.owner and not node.owner:
                page = public_key(key)
                assert page not in node.children
                waiting.setdefault(page, {})[child.owner] = child
        assert ((node.stats and node.stats.candidates) or {}) == waiting


def _check_node(tree: PrefixTree, node: Node) -> None:
    parent = node.parent
    assert parent is not None
    assert not node.state & LOGICALLY_FREED
    assert len(node.key)
    assert len(node.key) % tree.page_size == 0
    children = list(node.children.values())
    assert node.lock_ref >= sum(child.lock_ref for child in children)
    on_device = [child for child in children if child.value is not None]
    assert node.device_children == len(on_device)
    if node.value is None:
        assert not on_device
        assert not node.lock_ref
        assert node.host_value is not None
    else:
        assert len(node.value) == len(node.key)
    leaf = node.value is not None and not node.lock_ref and not on_device
    assert (node in tree.device.leaves) == leaf


def _check_device(tree: PrefixTree, device: DeviceTier) -> None:
    slots = logically_freed_slots(tree)
    sizes: dict[str, int] = {}
    evictable = protected = 0
    for node in walk(tree.root):
        if node.value is None:
            continue
        sizes[node.owner] = sizes.get(node.owner, 0) + len(node.key)
        evictable += 0 if node.lock_ref else len(node.key)
        protected += len(node.key) if node.lock_ref else 0
        _add_slots(slots, tree.memory.numbers(node.value))
    assert sizes == device.order.sizes, (sizes, device.order.sizes)
    assert (evictable, protected) == (device.evictable, device.protected)
    _check_shares(device.order, device.leaves)


def _check_host(tree: PrefixTree, host: HostTier) -> None:
    sizes: dict[str, int] = {}
    slots: set[int] = set()
    for node in walk(tree.root):
        children = node.children.values()
        assert node.host_children == sum(c.host_value is not None for c in children)
        leaf = node.value is None and not node.lock_ref and not node.host_children
        assert (node in host.leaves) == leaf
        if node.host_value is None:
            continue
        assert len(node.host_value) == len(node.key)
        assert node.parent is not None
        assert node.parent.host_value is not None  # the root has some, too
        sizes[node.owner] = sizes.get(node.owner, 0) + len(node.key)
        _add_slots(slots, tree.memory.numbers(node.host_value))
    assert sizes == host.order.sizes, (sizes, host.order.sizes)
    _check_shares(host.order, {leaf for leaf in host.leaves if not leaf.host_ref_counter})


def logically_freed_slots(tree: PrefixTree) -> set[int]:
    """Return the device slots of logically freed nodes, and those that wait to be freed."""
    slots: set[int] = set()
    waiting = tree.device_frees.slots()
    assert sum(map(len, waiting)) == tree.device_frees.tokens
    for part in waiting:
        _add_slots(slots, tree.memory.numbers(part))
    for node in tree.logical.freed:
        assert node.state & LOGICALLY_FREED
        assert node.parent is not None
        assert node.parent.children.get(tree.index.child_key(node)) is not node
        if node.value is not None:
            _add_slots(slots, tree.memory.numbers(node.value))
    for child, held in tree.logical.held_by.items():
        assert child.lock_ref > 0
        assert all(node in tree.logical.freed for node in held)
    return slots


def _add_slots(slots: set[int], found: list[int]) -> None:
    held = set(found)
    assert len(held) == len(found), "a slot twice in one node"
    assert not held & slots, "a slot in two places"
    slots |= held


def _check_shares(order: EvictionOrder, leaves: set[Node]) -> None:
    """Whoever holds more than their share of a tier has nothing left to give."""
    if order.quota is None:
        return
    for owner in {leaf.owner for leaf in leaves}:
        allowed = order.quota.of(owner)
        assert allowed is None or order.sizes[owner] <= allowed, (order.sizes, allowed)


def digest(tree: PrefixTree) -> str:
    """Hash all that was decided so far: equal on all ranks after equal messages."""
    state = hashlib.blake2b(digest_size=16)
    clock = tree.clock
    state.update(repr((clock.admitted, clock.epoch, clock.ticks)).encode())
    state.update(repr(sorted(tree.device.order.sizes.items())).encode())
    stack: list[Node] = [tree.root]
    while stack:
        node = stack.pop()
        state.update(
            repr(
                (
                    node.owner or PUBLIC,
                    node.key.extra_key if not node.owner else node.key.extra_key.extra_key,
                    node.lock_ref,
                    node.last_access_time,
                    (node.epoch, node.hit_cur, node.hit_pre, node.u_cnt_l, node.u_pre),
                    node.value is None,
                    node.host_value is None,
                    node.state,
                    node.asked_again,
                    len(node.children),
                )
            ).encode()
        )
        state.update(node.key.token_ids.tobytes())
        stack.extend(node.children.values())
    return state.hexdigest()
