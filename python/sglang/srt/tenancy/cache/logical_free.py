"""Free nodes logically: take them out of the tree while requests still read their slots.

A logically freed node is gone from the index and from all sizes at once. It keeps its slots and
its place in the chain of locks (``parent``), so whoever locked it unlocks as ever; its last lock
gives the slots back, through ``deferred_free.py``. Where a merge moves a locked child elsewhere,
the child's readers also read the freed node, but their locks no longer pass it: the child then
*holds* the node, which is one lock until the child's own last lock goes.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch

from sglang.srt.tenancy.cache.adapters.hiradix.deferred_free import DeviceFrees
from sglang.srt.tenancy.cache.core.node import LOGICALLY_FREED, Node, walk
from sglang.srt.tenancy.cache.names import Named


class LogicalFree(Named):
    def reset(self) -> None:
        super().reset()
        self._lingering: dict[Node, None] = {}  # freed, and still holding slots
        self._held_by: dict[Node, list[Node]] = {}  # locked child -> what it holds
        self.counts = {"logical_frees": 0}
        self.device_frees = DeviceFrees(
            partial(self.token_to_kv_pool_allocator.free_segment, start_pos=0),
            self.dec_lock_ref,
            _batches_ahead(self.options),
            torch.get_device_module(self.device).synchronize,
        )

    def logically_freed_tokens(self) -> int:
        """Device slots that wait for their last lock."""
        return sum(len(node.value) for node in self._lingering if node.value is not None)

    def protected_size(self) -> int:
        # Upstream's leak check wants each slot free, evictable or protected.
        waiting = self.logically_freed_tokens() if self._lingering else 0
        return int(self.protected_size_) + waiting + self.device_frees.tokens

    def count(self, event: str, times: int = 1) -> None:
        self.counts[event] = self.counts.get(event, 0) + times

    def _free_logically(self, node: Node) -> None:
        """Take a node, whose children were hung elsewhere or went before, out of the tree."""
        parent = node.parent
        assert parent is not None
        self._announce_gone(node)
        self._detach(node)
        self._leave_sizes(node)
        node.state |= LOGICALLY_FREED
        self._lingering[node] = None
        if node.lock_ref:
            self.count("logical_frees")
        self._let_go(node)
        self._update_leaf_status(parent)

    def _leave_sizes(self, node: Node) -> None:
        self.evictable_leaves.discard(node)
        if node.value is not None:
            if node.lock_ref:
                self.protected_size_ -= len(node.key)
            else:
                self.evictable_size_ -= len(node.key)
        self._uncount_device(node)

    def _free_subtree_logically(self, top: Node) -> int:
        """Free a node and all below it. Returns the device tokens that it held."""
        nodes = [top, *walk(top)]
        freed = sum(node.device_held for node in nodes)
        for node in reversed(nodes):
            self._free_logically(node)
        return freed

    def _let_go(self, node: Node) -> None:
        """Give back the slots of a logically freed node, if nobody reads them any more."""
        if not node.lock_ref and node in self._lingering:
            del self._lingering[node]
            if node.value is not None:
                self.device_frees.add(node.value)
                node.value = None

    def _hang(self, child: Node, parent: Node) -> None:
        """Move a child of a node that is about to be freed below another node."""
        before = child.parent
        assert before is not None
        self._withdraw_names(child)
        self._detach(child)
        if child.device_held:
            before.device_children -= 1
            parent.device_children += 1
        child.parent = parent
        self._attach(child, parent)
        if child.lock_ref:
            before.lock_ref += 1 - child.lock_ref  # its readers go, it holds
            self._held_by.setdefault(child, []).append(before)
            if not parent.lock_ref:
                self._protect(parent)
            parent.lock_ref += child.lock_ref
        self._update_leaf_status(parent)
        self._give_names(child)

    def _protect(self, node: Node) -> int:
        return 0 if node.state & LOGICALLY_FREED else super()._protect(node)

    def _unprotect(self, node: Node) -> int:
        for held in self._held_by.pop(node, ()):
            held.lock_ref -= 1
            if not held.lock_ref:
                self._unprotect(held)
        if not node.state & LOGICALLY_FREED:
            return super()._unprotect(node)
        self._let_go(node)
        return 0

    def _check_logically_freed(self) -> set[int]:
        """The device slots of logically freed nodes, and those that wait to be freed. Raises
        AssertionError on a broken promise."""
        slots: list[Any] = [slot for part in self.device_frees.slots() for slot in part.tolist()]
        assert len(slots) == self.device_frees.tokens
        for node in self._lingering:
            assert node.state & LOGICALLY_FREED
            assert node.parent is not None
            assert node.parent.children.get(node.key.child_key(self.page_size)) is not node
            if node.value is not None:
                slots.extend(node.value.tolist())
        for child, held in self._held_by.items():
            assert child.lock_ref > 0
            assert all(node in self._lingering for node in held)
        assert len(slots) == len(set(slots))
        return set(slots)


def _batches_ahead(options: Any) -> int:
    """How many batches may have been launched whose results the scheduler has not looked at."""
    stages = int(getattr(options, "pp_size", 1))
    if stages > 1:
        return 2 * stages
    return 0 if getattr(options, "disable_overlap_schedule", False) else 1
