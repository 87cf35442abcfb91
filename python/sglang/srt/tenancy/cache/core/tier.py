"""Count what the nodes of the tree hold on each tier, and know its evictable leaves.

A node that holds slots on a tier has a parent that holds some there, so each tier has leaves of its
own: nodes without a lock and without a child that holds something on it.
"""

from __future__ import annotations

from sglang.srt.tenancy.cache.core.node import QUEUED_DEVICE, QUEUED_HOST, Node
from sglang.srt.tenancy.cache.core.order import EvictionOrder


class DeviceTier:
    """``leaves``: the evictable ones, kept here. ``evictable``, ``protected``: tokens of nodes
    without and with a lock."""

    def __init__(self, order: EvictionOrder, leaves: set[Node]):
        self.order = order
        self.leaves = leaves
        self.evictable = 0
        self.protected = 0

    def update(self, node: Node) -> None:
        """Count what changed about a node, and queue it if it may be evicted from now on."""
        value = node.value
        if (value is None) != (node.device_held == 0):
            if value is None:
                self.uncount(node)
            elif node.parent is not None:  # the root holds nothing
                node.device_held = len(value)
                self.order.resize(node, node.device_held)
                node.parent.device_children += 1
        if value is None or node.lock_ref or node.device_children:
            self.leaves.discard(node)
        else:
            self.leaves.add(node)
            if not node.state & QUEUED_DEVICE:
                self.order.offer(node)

    def uncount(self, node: Node) -> None:
        if node.device_held:
            self.order.resize(node, -node.device_held)
            node.device_held = 0
            assert node.parent is not None
            node.parent.device_children -= 1

    def remove(self, node: Node) -> None:
        """Take a node that leaves the tree, with its slots, out of all sizes."""
        self.leaves.discard(node)
        if node.value is not None:
            if node.lock_ref:
                self.protected -= len(node.key)
            else:
                self.evictable -= len(node.key)
        self.uncount(node)

    def reparent(self, node: Node, before: Node, parent: Node) -> None:
        if node.device_held:
            before.device_children -= 1
            parent.device_children += 1

    def change_owner(self, node: Node, before: str) -> None:
        self.order.move(node, before, node.device_held)

    def ask_again(self, node: Node) -> None:
        self.order.ask_again(node, node.device_held)

    def protect(self, node: Node) -> int:
        """Take a node's first lock; returns the tokens that ceased to be evictable."""
        size = len(node.key)
        self.evictable -= size
        self.protected += size
        self.leaves.discard(node)
        return size

    def unprotect(self, node: Node) -> int:
        """Give back a node's last lock; returns the tokens that are evictable from now on."""
        size = len(node.key)
        self.evictable += size
        self.protected -= size
        self.update(node)
        return size


class HostTier:
    """``leaves``: the evictable ones: held on the host only, and by no transfer's lock."""

    def __init__(self, order: EvictionOrder, leaves: set[Node]):
        self.order = order
        self.leaves = leaves

    def update(self, node: Node) -> None:
        """Count what changed about a node, and queue it if it may be evicted from now on."""
        held = node.host_value is not None
        if held != bool(node.host_held) and node.parent is not None:
            if held:
                node.host_held = len(node.key)
                self.order.resize(node, node.host_held)
                node.parent.host_children += 1
            else:
                self.uncount(node)
        if node.value is not None or node.lock_ref or node.host_children or not held:
            self.leaves.discard(node)
        else:
            self.leaves.add(node)
            if not node.state & QUEUED_HOST:
                self.order.offer(node)

    def uncount(self, node: Node) -> None:
        if node.host_held:
            self.order.resize(node, -node.host_held)
            node.host_held = 0
            assert node.parent is not None
            node.parent.host_children -= 1

    def remove(self, node: Node) -> None:
        """Take a node that leaves the tree out of all sizes."""
        self.leaves.discard(node)
        self.uncount(node)

    def reparent(self, node: Node, before: Node, parent: Node) -> None:
        if node.host_held:
            before.host_children -= 1
            parent.host_children += 1

    def change_owner(self, node: Node, before: str) -> None:
        self.order.move(node, before, node.host_held)

    def ask_again(self, node: Node) -> None:
        self.order.ask_again(node, node.host_held)


class NoHostTier:
    """Stands where there is no host tier."""

    def update(self, node: Node) -> None:
        pass

    def uncount(self, node: Node) -> None:
        pass

    def remove(self, node: Node) -> None:
        pass

    def reparent(self, node: Node, before: Node, parent: Node) -> None:
        pass

    def change_owner(self, node: Node, before: str) -> None:
        pass

    def ask_again(self, node: Node) -> None:
        pass
