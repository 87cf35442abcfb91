"""Two kinds of merging: duplicates into what is public, and chains into one node."""

from __future__ import annotations

import torch

from sglang.srt.mem_cache.radix_cache import RadixKey
from sglang.srt.tenancy.cache.core.node import (
    JOINED,
    LOGICALLY_FREED,
    NO_PROMOTE,
    SCANNED_CLEAN,
    Node,
)
from sglang.srt.tenancy.cache.logical_free import LogicalFree
from sglang.srt.tenancy.cache.tree import common_prefix, public_key


class Merging(LogicalFree):
    """Design: "Private-subtree merging"."""

    def _merge_into_public(self, candidate: Node) -> None:
        """Merge a private node, whose first page has become public, and what hangs below it.

        Its tokens that are public now are freed; where it goes on differently it stays, private,
        below the public node it diverges from.
        """
        stack = [candidate]
        while stack:
            node = stack.pop()
            parent = node.parent
            assert parent is not None
            page = public_key(node.key.child_key(self.page_size))
            public = parent.children.get(page)
            if public is None:
                continue
            stored = node.key.token_ids
            shared = common_prefix(stored, public.key.token_ids, 0, len(public.key))
            shared = shared // self.page_size * self.page_size
            if shared < len(public.key):
                public = self._split_node(public.key, public, shared)
            if shared < len(stored):
                node = self._split_node(node.key, node, shared)
            self._join_counts(public, node)
            self._give_host_copy(node, public)
            for child in list(node.children.values()):
                self._hang(child, public)
                stack.append(child)
            self.count("merges")
            self.count("freed_duplicates", node.device_held)
            self._free_logically(node)

    def _join_counts(self, public: Node, private: Node) -> None:
        self._ask_again(public)  # a second user has held it
        self.clock.roll(public)
        self.clock.roll(private)
        stats = public.ensure_stats()
        public.hit_cur += private.hit_cur
        public.hit_pre += private.hit_pre
        stats.u_pre += private.u_pre
        if private.hit_cur:
            stats.users.add(private.owner)

    def _give_host_copy(self, node: Node, successor: Node) -> None:
        """Before a node goes: its successor keeps what only it had on the host."""

    def _tidy(self, node: Node, child: Node) -> None:
        if self._may_join(node, child):
            self._join(node, child)

    def _may_join(self, node: Node, child: Node) -> bool:
        """Whether a private node and its only child may be one: nobody can tell them apart."""
        if getattr(self.options, "schedule_policy", None) == "dfs-weight":
            # It matches all that wait, then walks the tree to find them at the nodes where their
            # matches ended: whoever waits at a node that was joined meanwhile would be lost.
            return False
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

    def _join(self, node: Node, child: Node) -> None:
        """The child takes its parent in, and its place.

        The child stays because requests point at it: their locks are the same in number, so
        none of them ends at the parent.
        """
        above = node.parent
        assert above is not None
        turn = self.eviction_strategy.get_priority(child)
        child.key = RadixKey(node.key.token_ids + child.key.token_ids, child.key.extra_key)
        if node.value is not None and child.value is not None:
            child.value = torch.cat((node.value, child.value))
            child.device_held += node.device_held
        if node.host_value is not None and child.host_value is not None:
            child.host_value = torch.cat((node.host_value, child.host_value))
            child.host_held += node.host_held
        if node.hash_value is not None and child.hash_value is not None:
            child.hash_value = node.hash_value + child.hash_value
        else:
            child.hash_value = None
        child.creation_time = node.creation_time
        child.hit_count = max(node.hit_count, child.hit_count)
        child.priority = max(node.priority, child.priority)
        child.state |= JOINED
        if self.eviction_strategy.get_priority(child) < turn:  # first in, first out: by the parent
            for order in self._orders():
                order.advance(child)
        child.parent = above
        self._attach(child, above)
        if node in self._held_by:
            self._held_by.setdefault(child, []).extend(self._held_by.pop(node))
        node.value = node.host_value = None
        node.lock_ref = 0
        node.state |= LOGICALLY_FREED
        self.count("joins")
