"""Merge private duplicates of what has become public."""

from __future__ import annotations

from sglang.srt.tenancy.cache.core.child_index import public_key
from sglang.srt.tenancy.cache.core.hits import HitCounter
from sglang.srt.tenancy.cache.core.node import Node
from sglang.srt.tenancy.cache.core.tokens import common_prefix
from sglang.srt.tenancy.cache.core.tree import PrefixTree
from sglang.srt.tenancy.cache.core.window import EpochCounter


class Merger:
    def __init__(self, tree: PrefixTree, clock: EpochCounter, hits: HitCounter):
        self._tree = tree
        self._clock = clock
        self._hits = hits

    def merge_into_public(self, candidate: Node) -> None:
        """Merge a private node, whose first page has become public, and what is below it.

        Its tokens that are public now are freed; where it goes on differently it stays, private,
        below the public node it diverges from.
        """
        tree = self._tree
        counts = tree.logical.counts
        owner, freed = candidate.owner, 0
        stack = [candidate]
        while stack:
            node = stack.pop()
            parent = node.parent
            assert parent is not None
            public = parent.children.get(public_key(tree.index.child_key(node)))
            if public is None:
                continue
            stored = node.key.token_ids
            shared = common_prefix(stored, public.key.token_ids, 0, len(public.key))
            shared = shared // tree.page_size * tree.page_size
            if shared < len(public.key):
                public = tree.split(public, shared)
            if shared < len(stored):
                node = tree.split(node, shared)
            self._add_counts(public, node)
            self._move_host_copy(node, public)
            for child in list(node.children.values()):
                tree.logical.move(child, public)
                stack.append(child)
            counts["merges"] += 1
            freed += node.device_held
            tree.logical.free(node)
        counts["freed_duplicates"] += freed
        tree.changes.note("merged", self._clock.epoch, freed, owner)

    def _add_counts(self, public: Node, private: Node) -> None:
        self._hits.ask_again(public)  # a second user has held it
        self._clock.roll(public)
        self._clock.roll(private)
        stats = public.ensure_stats()
        public.hit_cur += private.hit_cur
        public.hit_pre += private.hit_pre
        stats.u_pre += private.u_pre
        if private.hit_cur:
            stats.users.add(private.owner)

    def _move_host_copy(self, node: Node, successor: Node) -> None:
        """Have the successor of a node that is about to go keep what only it had on the host.

        A node that the host has must have a parent that the host has, down to the root: what is
        below the successor from now on may rest on this copy.
        """
        if node.host_value is None or successor.host_value is not None:
            return
        tree = self._tree
        tree.host_frees.protect(successor)  # loads and backups know of the node alone
        tree.host.uncount(node)
        successor.host_value, node.host_value = node.host_value, None
        tree.host.update(successor)
        tree.transfers.move_host_copy(node, successor)
