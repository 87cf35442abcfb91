"""Join chains: a private node and its only child, of the same state, become one node.

So a long conversation costs a few nodes, not one a turn.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from sglang.srt.tenancy.cache.core.node import (
    JOINED,
    LOGICALLY_FREED,
    NO_PROMOTE,
    SCANNED_CLEAN,
    Node,
)
from sglang.srt.tenancy.cache.core.order import EvictionOrder

if TYPE_CHECKING:
    from sglang.srt.tenancy.cache.core.tree import PrefixTree


class ChainJoiner:
    """``priority``: the engine's eviction strategy. ``orders``: those of all tiers."""

    def __init__(self, priority: Callable[[Any], Any], orders: list[EvictionOrder]):
        self._priority = priority
        self._orders = orders

    def may_join(self, node: Node, child: Node) -> bool:
        """Tell whether a private node and its only child may be one: nothing tells them apart."""
        return (
            node.lock_ref == child.lock_ref
            and node.epoch == child.epoch  # or one of them would seem used when it was not
            and node.asked_again == child.asked_again
            and (node.value is None) == (child.value is None)
            and (node.host_value is None) == (child.host_value is None)
            and node.write_through_pending_id is None
            and child.write_through_pending_id is None
            and not (node.host_ref_counter or child.host_ref_counter)
            and not (node.state ^ child.state) & (NO_PROMOTE | SCANNED_CLEAN)
        )

    def join(self, tree: PrefixTree, node: Node, child: Node) -> None:
        """Have the child take its parent in, and its place.

        The child stays because requests point at it: their locks are the same in number, so
        none of them ends at the parent.
        """
        above = node.parent
        assert above is not None
        before = self._priority(child)
        child.key = tree.new_key(node.key.token_ids + child.key.token_ids, child.key.extra_key)
        if child.value is not None:
            child.value = tree.memory.concat((node.value, child.value))
            child.device_held += node.device_held
        if child.host_value is not None:
            child.host_value = tree.memory.concat((node.host_value, child.host_value))
            child.host_held += node.host_held
        tree.events.join(node, child)
        child.creation_time = node.creation_time
        child.hit_count = max(node.hit_count, child.hit_count)
        child.priority = max(node.priority, child.priority)
        child.state |= JOINED
        if self._priority(child) < before:  # first in, first out: by the parent
            for order in self._orders:
                order.advance(child)
        child.parent = above
        tree.index.attach(child, above)
        tree.logical.hand_over(node, child)
        node.value = node.host_value = None
        node.host_held = node.lock_ref = 0
        node.state |= LOGICALLY_FREED
        tree.logical.counts["joins"] += 1
