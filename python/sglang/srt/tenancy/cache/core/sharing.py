"""Decide what is public: by an operator's word, by a detector's results, by who holds and asks.

The idea is that of the SafeKV paper (2025), which gives the ratio of reuse in two opposite
directions. Ours is distinct users / hits: low is suspicious.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import Any

from sglang.srt.tenancy.cache.core.demotion import Demoter
from sglang.srt.tenancy.cache.core.merge import Merger
from sglang.srt.tenancy.cache.core.node import (
    EARNED,
    LOGICALLY_FREED,
    REGISTERED,
    SCANNED_CLEAN,
    Node,
)
from sglang.srt.tenancy.cache.core.options import PolicyOptions
from sglang.srt.tenancy.cache.core.promotion import Promoter
from sglang.srt.tenancy.cache.core.sharing_memory import SharingMemory
from sglang.srt.tenancy.cache.core.tokens import common_prefix
from sglang.srt.tenancy.cache.core.tree import PrefixTree
from sglang.srt.tenancy.cache.core.votes import Ballot
from sglang.srt.tenancy.cache.core.window import EpochCounter


class SharingPolicy:
    """Publish, withdraw, promote and demote prefixes of one tree.

    Outside of ``--tenant-mode selective`` nothing is ever private, or nothing ever public.
    """

    def __init__(
        self,
        tree: PrefixTree,
        clock: EpochCounter,
        merger: Merger,
        memory: SharingMemory,
        options: PolicyOptions,
    ):
        self._tree = tree
        self._selective = options.selective
        self.memory = memory
        self._clock = clock
        self._ballot: Ballot | None = None
        if memory.budget is not None:
            self._ballot = Ballot(memory.budget, tree.index, memory.results)
        enough = None if options.votes else options.public_users
        self.promoter = Promoter(tree, clock, merger, memory, enough)
        self.demoter = Demoter(tree, clock, memory, options)

    # What a request brings

    def note_insertion(self, key: Any, last: Node) -> None:
        """Let what a user has just inserted become public, or vote for it.

        ``last``: the node in which it ends."""
        if not self.promoter.promote(key, last) and self._ballot is not None:
            self._ballot.vote(last)

    def note_request(self, last: Node) -> None:
        """Let what one more request hit become private, or end a voting window.

        Where users vote nothing is demoted: the monitor's counts of users are exact, and a
        demotion would tell them."""
        ballot = self._ballot
        if ballot is None:
            self.demoter.demote_probed(last)
        elif self._clock.admitted % ballot.budget.window_requests == 0:
            for node in ballot.end_window():
                self.promoter.publish_down_to(node)

    # What operators ask for

    def forget(self, owner: str) -> None:
        """As ``Ballot.forget``, where users vote."""
        if self._ballot is not None:
            self._ballot.forget(owner)

    def votes(self) -> dict[str, int] | None:
        """As ``Ballot.stats``; None where nobody votes."""
        return None if self._ballot is None else self._ballot.stats(self._clock.admitted)

    # Published prefixes

    def publish(self, tokens: Sequence[int]) -> None:
        """Make a prefix public for everybody, whenever somebody next asks for it."""
        self.memory.published.add(tokens)
        if self._selective:
            for node in self._public_path(array("q", tokens)):
                node.state |= REGISTERED

    def withdraw(self, tokens: Sequence[int]) -> None:
        """Take a published prefix back; what is public only through it goes back to its first
        owner. Raises ValueError if it was not published."""
        gone = self.memory.published.remove(tokens)
        if not self._selective:
            return
        tree = self._tree
        still = self.memory.published.covers(gone, len(gone))
        for node in self._public_path(gone):
            start = tree.depth(node) - len(node.key)
            if start < still < start + len(node.key):
                tree.split(node, still - start)
        for node in self._public_path(gone):
            if node.owner or node.state & LOGICALLY_FREED or tree.depth(node) <= still:
                continue  # it is covered still, or went along with one above
            node.state &= ~REGISTERED
            if not node.state & EARNED:
                self.demoter.demote(node)

    def _public_path(self, tokens: array[int]) -> list[Node]:
        """Find the public nodes, in all namespaces, that hold a prefix of these tokens; where one
        holds more it is cut."""
        tree = self._tree
        found = []
        stack = [(tree.root, 0)]
        while stack:
            node, at = stack.pop()
            for child in list(node.children.values()) if at < len(tokens) else ():
                if child.owner:
                    continue
                stored = child.key.token_ids
                shared = common_prefix(stored, tokens, at, len(tokens))
                shared = shared // tree.page_size * tree.page_size
                if not shared:
                    continue
                if shared == len(stored):
                    stack.append((child, at + shared))
                else:
                    child = tree.split(child, shared)
                found.append(child)
        return found

    # What a detector says

    def apply_scan_result(self, key: Any, harmless: int, sensitive: int | None) -> None:
        """Note what a detector found in a request's tokens, and promote what it lets.

        ``key``: the tokens, under the ``Namespace`` of who sent them. The first ``harmless`` of
        them hold nothing sensitive; ``sensitive``: index of the first token that does.
        """
        if not self._selective:
            return
        page = self._tree.page_size
        tokens, namespace = key.token_ids, key.extra_key
        if sensitive is not None and sensitive < len(tokens):
            # The page it begins in, so that nothing that reaches it becomes public.
            blocked = min(len(tokens), (sensitive // page + 1) * page)
            self.memory.blocklist.block(namespace.extra_key, tokens, blocked)
            self._clear_harmless(key, sensitive // page * page)
        end = min(harmless, len(tokens)) // page * page
        path = [node for node in self._tree.cut(key, end) if node.owner]
        for node in path:
            node.state |= SCANNED_CLEAN
        if path:
            self.promoter.promote(key, path[-1])

    def _clear_harmless(self, key: Any, above: int) -> None:
        """Take back what an earlier result said of the nodes that a sender's tokens behind
        ``above`` reach. The blocklist may forget; then they need a result again."""
        self._tree.cut(key, above)  # what is before keeps its result
        nodes, end, partial, shared = self._tree.walk_path(key, len(key))
        if partial is not None:
            nodes.append(partial)
            end += shared
        for node in reversed(nodes):
            if end <= above:
                break
            node.state &= ~SCANNED_CLEAN
            end -= shared if node is partial else len(node.key)
