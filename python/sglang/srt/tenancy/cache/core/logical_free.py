"""Free nodes logically: take them out of the tree while requests still read their slots.

A logically freed node is gone from the index and from all sizes at once. It keeps its slots and
its place in the chain of locks (``parent``), so whoever locked it unlocks as ever; its last lock
gives the slots back, through ``deferred_free.py``. Where a merge moves a locked child below
another node, the child's readers also read the freed node, but their locks no longer pass it: the
child then *holds* the node, which is one lock until the child's own last lock goes.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from sglang.srt.tenancy.cache.core.node import LOGICALLY_FREED, Node, walk

if TYPE_CHECKING:
    from sglang.srt.tenancy.cache.core.tree import PrefixTree


class LogicalFrees:
    """The logically freed nodes of one tree.

    ``freed``: those that still have slots. ``held_by``: locked node -> the freed nodes it holds.
    ``counts``: what happened in the tree, for operators.
    """

    def __init__(self, tree: PrefixTree, counts: Counter[str]):
        self._tree = tree
        self.freed: dict[Node, None] = {}
        self.held_by: dict[Node, list[Node]] = {}
        self.counts = counts

    def tokens(self) -> int:
        """Count the device slots that wait for their last lock."""
        return sum(len(node.value) for node in self.freed if node.value is not None)

    def free(self, node: Node) -> None:
        """Take a node without children out of the tree."""
        tree, parent = self._tree, node.parent
        assert parent is not None
        tree.events.removed_everywhere(node)
        tree.index.detach(node)
        tree.device.remove(node)
        tree.host.remove(node)
        node.state |= LOGICALLY_FREED
        self.freed[node] = None
        if node.lock_ref:
            self.counts["logical_frees"] += 1
        self._release(node)
        tree.device.update(parent)
        if node.host_value is not None:
            # Requests read the device only: these need not wait for their locks.
            tree.host_frees.add(node.host_value)
            node.host_value = None
        tree.host.update(parent)

    def free_subtree(self, top: Node) -> int:
        """Free a node and all below it. Returns the device tokens that it held."""
        nodes = [top, *walk(top)]
        freed = sum(node.device_held for node in nodes)
        for node in reversed(nodes):
            self.free(node)
        return freed

    def _release(self, node: Node) -> None:
        """Give back the slots of a logically freed node, if nobody reads them any more."""
        if not node.lock_ref and node in self.freed:
            del self.freed[node]
            if node.value is not None:
                self._tree.device_frees.add(node.value)
                node.value = None

    def move(self, child: Node, parent: Node) -> None:
        """Move a child of a node that is about to be freed below another node."""
        tree, before = self._tree, child.parent
        assert before is not None
        tree.events.withdraw(child)
        tree.host.reparent(child, before, parent)
        tree.index.detach(child)
        tree.device.reparent(child, before, parent)
        child.parent = parent
        tree.index.attach(child, parent)
        if child.lock_ref:
            before.lock_ref += 1 - child.lock_ref  # its readers go, it holds
            self.held_by.setdefault(child, []).append(before)
            if not parent.lock_ref:
                self.protect(parent)
            parent.lock_ref += child.lock_ref
        tree.device.update(parent)
        tree.events.announce(child)
        tree.host.update(parent)

    def hand_over(self, node: Node, successor: Node) -> None:
        """Have a successor hold what a node held that it takes in."""
        if node in self.held_by:
            self.held_by.setdefault(successor, []).extend(self.held_by.pop(node))

    # Locks

    def protect(self, node: Node) -> int:
        """Take a node's first lock; returns the tokens that ceased to be evictable."""
        return 0 if node.state & LOGICALLY_FREED else self._tree.device.protect(node)

    def unprotect(self, node: Node) -> int:
        """Give back a node's last lock; returns the tokens that are evictable from now on."""
        if self.held_by:
            for held in self.held_by.pop(node, ()):
                held.lock_ref -= 1
                if not held.lock_ref:
                    self.unprotect(held)
        if not node.state & LOGICALLY_FREED:
            return self._tree.device.unprotect(node)
        self._release(node)
        return 0
