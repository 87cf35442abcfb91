"""Take public prefixes back that are probed, or that no operator registers any more."""

from __future__ import annotations

import logging
from array import array

from sglang.srt.tenancy.cache.core.node import EARNED, LOGICALLY_FREED, PUBLIC, REGISTERED, Node
from sglang.srt.tenancy.cache.core.options import PolicyOptions
from sglang.srt.tenancy.cache.core.sharing_memory import SharingMemory
from sglang.srt.tenancy.cache.core.tree import PrefixTree
from sglang.srt.tenancy.cache.core.window import EpochCounter, reuse_diversity
from sglang.srt.tenancy.namespace import Namespace

logger = logging.getLogger(__name__)


class Demoter:
    def __init__(
        self,
        tree: PrefixTree,
        clock: EpochCounter,
        memory: SharingMemory,
        options: PolicyOptions,
    ):
        self._tree = tree
        self._clock = clock
        self._memory = memory
        self._options = options

    def demote_probed(self, last: Node) -> None:
        """Demote the topmost node of a path whose reuse looks like probing."""
        suspect = self._topmost_probed(last)
        if suspect is None:
            return
        self._quarantine(suspect)
        self._tree.logical.counts["quarantines"] += 1
        depth = self._tree.depth(suspect)
        self._tree.changes.note("quarantined", self._clock.epoch, depth)
        logger.warning(
            "A public prefix of %d tokens is private again: %d hits by %d users look like "
            "probing. It stays private for %d epochs.",
            depth,
            suspect.hit_cur + suspect.hit_pre,
            suspect.u_cnt_l + suspect.u_pre,
            self._options.quarantine_epochs,
        )
        self.demote(suspect)

    def _topmost_probed(self, last: Node) -> Node | None:
        limit, minimum = self._options.rdr_threshold, self._options.rdr_min_hits
        suspect = None
        node = last
        while node.parent is not None:
            if (
                not node.owner
                and not node.state & (REGISTERED | LOGICALLY_FREED)
                and node.hit_cur + node.hit_pre >= minimum
                and reuse_diversity(node) < limit
            ):
                suspect = node
            node = node.parent
        return suspect

    def _quarantine(self, node: Node) -> None:
        tokens: array[int] = array("q")
        above: Node | None = node.parent
        while above is not None and above.parent is not None:
            tokens = above.key.token_ids + tokens
            above = above.parent
        start = len(tokens)
        tokens += node.key.token_ids
        until = self._clock.epoch + self._options.quarantine_epochs
        length = start + self._tree.page_size
        self._memory.blocklist.quarantine(node.key.extra_key, tokens, length, until)
        self._memory.elsewhere.demote(node.key.extra_key, tokens, length)

    def demote(self, top: Node) -> None:
        """Give a public node and all public ones below it back to its first owner; what other
        owners have below is freed, and all of it where the first owner was erased."""
        assert top.stats is not None
        logical = self._tree.logical
        owner = top.stats.first_owner
        logical.counts["demotions"] += 1
        if not owner:  # they were erased
            self._note_demoted(logical.free_subtree(top), owner)
            return
        kept, tokens = [top], 0
        while kept:
            node = kept.pop()
            for child in list(node.children.values()):
                theirs = child.owner or child.ensure_stats().first_owner
                if theirs == owner:
                    kept.append(child)
                else:
                    logical.free_subtree(child)
            if not node.owner:
                tokens += len(node.key)
                self._conceal(node, owner)
        self._note_demoted(tokens, owner)

    def _note_demoted(self, tokens: int, owner: str) -> None:
        self._tree.changes.note("demoted", self._clock.epoch, tokens, owner)

    def _conceal(self, node: Node, owner: str) -> None:
        """Make a public node private; its children are of the same first owner."""
        tree = self._tree
        tree.events.withdraw(node)
        tree.index.detach(node)
        node.key.extra_key = Namespace(owner, node.key.extra_key)
        node.owner = owner
        node.stats = None
        node.state &= ~(REGISTERED | EARNED)
        tree.change_scope(node, PUBLIC)
