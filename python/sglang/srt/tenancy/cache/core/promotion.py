"""Make private prefixes public: registered ones, and harmless ones that enough users hold, here or
at another replica."""

from __future__ import annotations

from array import array
from collections.abc import Callable
from itertools import islice
from typing import Any

from sglang.srt.tenancy.cache.core.merge import Merger
from sglang.srt.tenancy.cache.core.node import (
    EARNED,
    LOGICALLY_FREED,
    NO_PROMOTE,
    PUBLIC,
    REGISTERED,
    VOTED,
    Node,
    private_path,
)
from sglang.srt.tenancy.cache.core.sharing_memory import SharingMemory
from sglang.srt.tenancy.cache.core.tokens import common_prefix
from sglang.srt.tenancy.cache.core.tree import PrefixTree
from sglang.srt.tenancy.cache.core.window import EpochCounter

# Owners of one first page that are compared for one prompt, those who came last first: they are
# likeliest to be in the window.
_MOST_COUNTED = 1024


class Promoter:
    """``public_users``: how many distinct users must hold a prefix in the window. None: nobody is
    counted, and no other replica believed; what enough users voted for is published here."""

    def __init__(
        self,
        tree: PrefixTree,
        clock: EpochCounter,
        merger: Merger,
        memory: SharingMemory,
        public_users: int | None,
    ):
        self._tree = tree
        self._clock = clock
        self._merger = merger
        self._memory = memory
        self._public_users = public_users

    def promote(self, key: Any, last: Node) -> bool:
        """Make public what may be, of a path that its owner has just inserted; tell whether
        anything was.

        ``last``: the node in which the path ends, with all of the key's tokens above it.
        """
        path = private_path(last)
        if not path:
            return False
        start = self._tree.depth(path[0]) - len(path[0].key)
        end = start
        for node in path:
            if node.state & NO_PROMOTE:
                break
            end += len(node.key)
        if end == start:
            return False
        registered = self._memory.published.covers(key.token_ids, end)
        earned = max(
            self.promotable(key, path, start, end), self._public_elsewhere(key, path[0], start, end)
        )
        length = max(registered, earned) - start
        if length <= 0:
            return False
        self._make_public(path, length, registered - start)
        return True

    def publish_down_to(self, node: Node) -> None:
        """Make all of a private path public; nothing, where it has become public meanwhile."""
        path = private_path(node)
        if path and not node.state & LOGICALLY_FREED:
            self._make_public(path, sum(len(part.key) for part in path), 0)

    # How far

    def promotable(self, key: Any, path: list[Node], start: int, end: int) -> int:
        """Find up to which token the path may become public because enough users hold it."""
        page, first, enough = self._tree.page_size, path[0], self._public_users
        if enough is None:
            return start
        assert first.parent is not None
        candidates = self._tree.index.candidates(first, first.parent)
        if len(candidates) < enough:
            return start  # before anything is hashed
        end = min(end, start + self._memory.results.harmless(path))
        plain, epoch = first.key.extra_key.extra_key, self._clock.epoch
        end = self._memory.blocklist.allowed(plain, key.token_ids, start, end, epoch) // page * page
        if end <= start:
            return start
        holders = self._holders(key.token_ids, candidates, start, end, enough)
        return start if len(holders) < enough else sorted(holders, reverse=True)[enough - 1]

    def _public_elsewhere(self, key: Any, first: Node, start: int, end: int) -> int:
        """Find up to which token another replica's word reaches, against none of this one's."""
        elsewhere = self._memory.elsewhere
        if self._public_users is None or not elsewhere.public:
            return start
        plain, epoch = first.key.extra_key.extra_key, self._clock.epoch
        end = self._memory.blocklist.allowed(plain, key.token_ids, start, end, epoch)
        return elsewhere.covers(plain, key.token_ids, start, end)

    def _holders(
        self, tokens: array[int], candidates: dict[str, Node], start: int, end: int, enough: int
    ) -> list[int]:
        """Find for each owner of these tokens under one public parent up to where they hold them.

        Only what was used in the window counts, and nothing that a request kept to itself.
        """
        found: list[int] = []
        whole = 0
        for candidate in islice(reversed(candidates.values()), _MOST_COUNTED):
            held = self._reach(candidate, tokens, start, end, self._counts)
            if held > start:
                found.append(held)
            whole += held >= end
            if whole >= enough:
                break  # nothing can be longer
        return found

    def _reach(
        self, top: Node, tokens: array[int], at: int, end: int, admits: Callable[[Node], bool]
    ) -> int:
        """Find up to which token an owner's nodes, as far as they are admitted, hold these.

        ``top``: their node in which token ``at`` is the first, below a public node.
        """
        # Not by walk_path: it would compare all the tokens of copies that do not count.
        tree, key = self._tree, self._tree.new_key(tokens, top.key.extra_key)
        node: Node | None = top
        while node is not None and admits(node):
            stored = node.key.token_ids
            shared = common_prefix(stored, tokens, at, end) // tree.page_size * tree.page_size
            at += shared
            if shared < len(stored) or at >= end:
                break
            node = tree.child_of(node, key, at)
        return at

    def _counts(self, node: Node) -> bool:
        """Tell whether a request that may make something public used the node in the window."""
        return not node.state & NO_PROMOTE and self._clock.in_window(node)

    # Doing it

    def _make_public(self, path: list[Node], length: int, registered: int) -> None:
        """Make the first ``length`` tokens of a private path public, ``registered`` of them by an
        operator's word, and merge every other owner's copy into them.

        Of the copies, the one that reaches furthest on the device becomes the public one: a node
        on the device must have a parent there, and the others' children are moved below it. The
        path's own may have gone to the host, where its scan result came late.
        """
        tree = self._tree
        top, mine = path[0].parent, path[0]
        assert top is not None
        tokens: array[int] = array("q")
        for node in path:
            tokens += node.key.token_ids
        holders = self._eldest_first(mine, tokens, length)
        key = tree.new_key(tokens, mine.key.extra_key)
        done = 0
        while done < length:
            copies = list(tree.index.candidates(mine, top).values())
            best = self._furthest_on_device(copies, mine, tokens, done, length)
            for node in self._cut_copy(best, top, tokens, done, length, registered):
                done += len(node.key)
                first_owner = next(owner for owner, held in holders if held >= done)
                self._expose(node, first_owner, registered=done <= registered)
                top = node
            for copy in copies:
                if copy is not best:
                    self._merger.merge_into_public(copy)
            if done < length:
                below = tree.child_of(top, key, done)
                assert below is not None, "the path's owner holds all of it"
                mine = below
        tree.logical.counts["promotions"] += 1
        tree.changes.note("promoted", self._clock.epoch, length, holders[0][0])

    def _eldest_first(self, mine: Node, tokens: array[int], length: int) -> list[tuple[str, int]]:
        """List who has the first of these tokens, and how many; whoever had the first page first
        comes first. Nobody may be given back what they never had."""
        assert mine.parent is not None
        copies = self._tree.index.candidates(mine, mine.parent).values()
        eldest = sorted(copies, key=lambda node: node.creation_time)
        return [
            (node.owner, self._reach(node, tokens, 0, length, lambda _: True)) for node in eldest
        ]

    def _furthest_on_device(
        self, copies: list[Node], mine: Node, tokens: array[int], at: int, end: int
    ) -> Node:
        """Choose of several owners' copies of ``tokens[at:end]`` the one to keep; ``mine`` where
        nobody has more on the device."""
        best, most = mine, self._reach(mine, tokens, at, end, _is_on_device)
        for copy in copies:
            reach = self._reach(copy, tokens, at, end, _is_on_device)
            if reach > most:
                best, most = copy, reach
        return best

    def _cut_copy(
        self, top: Node, parent: Node, tokens: array[int], at: int, end: int, border: int
    ) -> list[Node]:
        """Cut one owner's copy of ``tokens[at:end]``, which begins at ``top``, where it goes on
        differently, at the end and at ``border``. Returns its nodes."""
        key = self._tree.new_key(tokens, top.key.extra_key)
        if at < border < end:
            self._tree.cut(key, border, parent, at)
        return self._tree.cut(key, end, parent, at)

    def _expose(self, node: Node, first_owner: str, *, registered: bool) -> None:
        """Make a private node below a public one public."""
        tree, before = self._tree, node.owner
        tree.events.withdraw(node)
        tree.index.detach(node)
        node.key.extra_key = node.key.extra_key.extra_key
        node.owner = PUBLIC
        stats = node.ensure_stats()
        stats.first_owner = first_owner
        stats.u_pre = min(1, node.hit_pre)
        if node.hit_cur:
            stats.users.add(before)
        node.state &= ~(NO_PROMOTE | VOTED)
        node.state |= REGISTERED if registered else EARNED
        tree.change_scope(node, before)


def _is_on_device(node: Node) -> bool:
    return node.value is not None
