"""What becomes public, and what ceases to be.

The idea is that of the SafeKV paper (2025), which gives the ratio of reuse in two opposite
directions. Ours is distinct users / hits: low is suspicious.
"""

from __future__ import annotations

import logging
from array import array
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any

from sglang.srt.mem_cache.radix_cache import RadixKey
from sglang.srt.tenancy.cache.core.node import (
    EARNED,
    LOGICALLY_FREED,
    NO_PROMOTE,
    PUBLIC,
    REGISTERED,
    SCANNED_CLEAN,
    Node,
    walk,
)
from sglang.srt.tenancy.cache.core.promotion_blocklist import PromotionBlocklist
from sglang.srt.tenancy.cache.core.published import Published
from sglang.srt.tenancy.cache.core.verdicts import SOURCES, Judged, Verdicts
from sglang.srt.tenancy.cache.core.window import reuse_diversity
from sglang.srt.tenancy.cache.merge import Merging
from sglang.srt.tenancy.cache.tree import common_prefix, public_key
from sglang.srt.tenancy.namespace import Namespace

logger = logging.getLogger(__name__)

# Owners of one first page that are compared for one prompt, those who came last first: they are
# likeliest to be in the window.
_MOST_COUNTED = 1024


class Sharing(Merging):
    def reset(self) -> None:
        super().reset()
        if not hasattr(self, "published"):  # they outlive a flush of the cache
            self.published = Published(self.page_size)
            self.blocklist = PromotionBlocklist()
            self.verdicts: Verdicts = SOURCES.get(self.options.tenant_detector, Judged)()

    # Published prefixes

    def publish(self, tokens: Sequence[int]) -> None:
        """Make a prefix public for everybody, whenever somebody next asks for it."""
        self.published.add(tokens)
        if self.options.tenant_mode != "selective":
            return  # nothing is ever private, or ever public
        for node in self._public_path(array("q", tokens)):
            node.state |= REGISTERED

    def withdraw(self, tokens: Sequence[int]) -> None:
        """Take a published prefix back; what is public only through it goes back to its first
        owner. Raises ValueError if it was not published."""
        gone = self.published.remove(tokens)
        if self.options.tenant_mode != "selective":
            return
        still = self.published.covers(gone, len(gone))
        for node in self._public_path(gone):
            start = self._depth(node) - len(node.key)
            if start < still < start + len(node.key):
                self._split_node(node.key, node, still - start)
        for node in self._public_path(gone):
            if node.owner or node.state & LOGICALLY_FREED or self._depth(node) <= still:
                continue  # it is covered still, or went along with one above
            node.state &= ~REGISTERED
            if not node.state & EARNED:
                self._demote(node)

    def _public_path(self, tokens: array[int]) -> list[Node]:
        """The public nodes, in all namespaces, that hold a prefix of these tokens; where one
        holds more it is cut."""
        found = []
        stack = [(self.root_node, 0)]
        while stack:
            node, at = stack.pop()
            for child in list(node.children.values()) if at < len(tokens) else ():
                if child.owner:
                    continue
                stored = child.key.token_ids
                shared = common_prefix(stored, tokens, at, len(tokens))
                shared = shared // self.page_size * self.page_size
                if not shared:
                    continue
                if shared == len(stored):
                    stack.append((child, at + shared))
                else:
                    child = self._split_node(child.key, child, shared)
                found.append(child)
        return found

    # Verdicts

    def judge(self, key: RadixKey, harmless: int, sensitive: int | None) -> None:
        """A detector's verdict on a request's tokens, as it arrives on the scheduler's channel.

        ``key``: the tokens, under the ``Namespace`` of who sent them. The first ``harmless`` of
        them hold nothing sensitive; ``sensitive``: index of the first token that does.
        """
        if self.options.tenant_mode != "selective":
            return
        page = self.page_size
        tokens, namespace = key.token_ids, key.extra_key
        if sensitive is not None and sensitive < len(tokens):
            # The page it begins in, so that nothing that reaches it becomes public.
            blocked = min(len(tokens), (sensitive // page + 1) * page)
            self.blocklist.block(namespace.extra_key, tokens, blocked)
            self._clear_harmless(key, sensitive // page * page)
        path = self._cut_at(key, min(harmless, len(tokens)) // page * page)
        for node in path:
            node.state |= SCANNED_CLEAN
        if path:
            self._promote(key, path[-1])

    def _clear_harmless(self, key: RadixKey, above: int) -> None:
        """Take back what an earlier verdict said of the nodes that a sender's tokens behind
        ``above`` reach. The blocklist may forget; then they need a verdict again."""
        self._cut_at(key, above)  # what is before keeps its verdict
        node, at, end = self.root_node, 0, len(key)
        while at < end:
            child = self.child_of(node, key, at)
            if child is None:
                break
            shared = common_prefix(child.key.token_ids, key.token_ids, at, end)
            at += shared
            if at > above:
                child.state &= ~SCANNED_CLEAN
            if shared < len(child.key):
                break
            node = child

    def _cut_at(self, key: RadixKey, end: int) -> list[Node]:
        """The private nodes of the key's first ``end`` tokens, none of them longer than that."""
        path: list[Node] = []
        node, at = self.root_node, 0
        while at < end:
            child = self.child_of(node, key, at)
            if child is None:
                break
            stored = child.key.token_ids
            shared = common_prefix(stored, key.token_ids, at, end)
            if shared < len(stored):
                shared = shared // self.page_size * self.page_size
                child = self._split_node(child.key, child, shared)
            at += shared
            node = child
            if child.owner:
                path.append(child)
        return path

    # Counting

    def _visit(self, last: Node, user: str, counted: int) -> int:
        """A request passes the nodes down to ``last``; those that begin in its first ``counted``
        tokens know of it. Returns how many tokens are counted now."""
        start = depth = self._depth(last)
        node = last
        while node.parent is not None:
            start -= len(node.key)
            if start < counted:
                break
            self._count(node, user)
            node = node.parent
        return max(depth, counted)

    # Promotion

    def _promote(self, key: RadixKey, last: Node) -> None:
        """Make public what may be, of a path that its owner has just inserted.

        ``last``: the node in which the path ends, with all of the key's tokens above it.
        """
        path = self._private_path(last)
        if not path:
            return
        start = self._depth(path[0]) - len(path[0].key)
        end = start
        for node in path:
            if node.state & NO_PROMOTE:
                break
            end += len(node.key)
        if end == start:
            return
        registered = self.published.covers(key.token_ids, end)
        length = max(registered, self._promotable(key, path, start, end)) - start
        if length <= 0:
            return
        self._make_public(path, length, registered - start)

    def _private_path(self, last: Node) -> list[Node]:
        path = []
        node = last
        while node.owner:
            path.append(node)
            assert node.parent is not None
            node = node.parent
        path.reverse()
        return path

    def _depth(self, node: Node) -> int:
        """Tokens from the root to the end of a node."""
        depth = 0
        while node.parent is not None:
            depth += len(node.key)
            node = node.parent
        return depth

    def _promotable(self, key: RadixKey, path: list[Node], start: int, end: int) -> int:
        """Up to which token the path may become public because enough users hold it."""
        page, first, enough = self.page_size, path[0], self.options.tenant_public_users
        assert first.parent is not None
        candidates = self._candidates(first, first.parent)
        if len(candidates) < enough:
            return start  # before anything is hashed
        end = min(end, start + self.verdicts.harmless(path))
        plain, epoch = first.key.extra_key.extra_key, self.clock.epoch
        end = self.blocklist.allowed(plain, key.token_ids, start, end, epoch) // page * page
        if end <= start:
            return start
        holders = self._holders(key.token_ids, candidates, start, end)
        return start if len(holders) < enough else sorted(holders, reverse=True)[enough - 1]

    def _holders(
        self, tokens: array[int], candidates: dict[str, Node], start: int, end: int
    ) -> list[int]:
        """For each owner of these tokens under one public parent: up to where they hold them.

        Only what was used in the window counts, and nothing that a request kept to itself.
        """
        found: list[int] = []
        whole = 0
        for candidate in islice(reversed(candidates.values()), _MOST_COUNTED):
            held = self._held(candidate, tokens, start, end, self._counts_for_promotion)
            if held > start:
                found.append(held)
            whole += held >= end
            if whole >= self.options.tenant_public_users:
                break  # nothing can be longer
        return found

    def _held(
        self,
        node: Node | None,
        tokens: array[int],
        at: int,
        end: int,
        admits: Callable[[Node], bool],
    ) -> int:
        """Up to which token a private chain, as far as its nodes are admitted, holds these; it
        begins at token ``at``."""
        page = self.page_size
        while node is not None and admits(node):
            stored = node.key.token_ids
            shared = common_prefix(stored, tokens, at, end) // page * page
            at += shared
            if shared < len(stored) or at >= end:
                break
            node = self.child_of(node, RadixKey(tokens, node.key.extra_key), at)
        return at

    def _counts_for_promotion(self, node: Node) -> bool:
        """Whether a request that may make something public used the node within the window."""
        return not node.state & NO_PROMOTE and self.clock.in_window(node)

    def _make_public(self, path: list[Node], length: int, registered: int) -> None:
        """The first ``length`` tokens of a private path become public, ``registered`` of them
        by an operator's word; every other owner's copy is merged into them.

        Of the copies, the one that reaches furthest on the device becomes the public one: a node
        on the device must have a parent there, and the others' children are hung below it. The
        path's own may have gone to the host, where its verdict came late.
        """
        top, mine = path[0].parent, path[0]
        assert top is not None
        tokens: array[int] = array("q")
        for node in path:
            tokens += node.key.token_ids
        holders = self._eldest_first(mine, tokens, length)
        key = RadixKey(tokens, mine.key.extra_key)
        done = 0
        while done < length:
            copies = list(self._candidates(mine, top).values())
            best = self._furthest_on_device(copies, mine, tokens, done, length)
            for node in self._chain(best, tokens, done, length, registered):
                done += len(node.key)
                first_owner = next(owner for owner, held in holders if held >= done)
                self._expose(node, first_owner, registered=done <= registered)
                top = node
            for copy in copies:
                if copy is not best:
                    self._merge_into_public(copy)
            if done < length:
                below = self.child_of(top, key, done)
                assert below is not None, "the path's owner holds all of it"
                mine = below
        self.count("promotions")

    def _furthest_on_device(
        self, copies: list[Node], mine: Node, tokens: array[int], at: int, end: int
    ) -> Node:
        """Of several owners' copies of ``tokens[at:end]`` the one to keep; ``mine`` where nobody
        has more on the device."""
        best, most = mine, self._held(mine, tokens, at, end, _is_on_device)
        for copy in copies:
            reach = self._held(copy, tokens, at, end, _is_on_device)
            if reach > most:
                best, most = copy, reach
        return best

    def _chain(
        self, node: Node | None, tokens: array[int], at: int, end: int, border: int
    ) -> list[Node]:
        """The nodes of one owner's copy of ``tokens[at:end]``, which begins at ``node``, as far as
        it reaches. They are cut where they go on differently, at the end and at ``border``."""
        page = self.page_size
        key = RadixKey(tokens, node.key.extra_key) if node is not None else None
        chain = []
        while node is not None and at < end:
            stored = node.key.token_ids
            upto = border if at < border < end else end
            shared = common_prefix(stored, tokens, at, upto) // page * page
            if shared < len(stored):
                node = self._split_node(node.key, node, shared)
            chain.append(node)
            at += shared
            if shared < len(stored) and at < upto:
                break
            assert key is not None
            node = self.child_of(node, key, at) if at < end else None
        return chain

    def _eldest_first(self, mine: Node, tokens: array[int], length: int) -> list[tuple[str, int]]:
        """Who has the first of these tokens, and how many; whoever had the first page first
        comes first. Nobody may be given back what they never had."""
        assert mine.parent is not None
        copies = self._candidates(mine, mine.parent).values()
        eldest = sorted(copies, key=lambda node: node.creation_time)
        return [
            (node.owner, self._held(node, tokens, 0, length, lambda _: True)) for node in eldest
        ]

    def _expose(self, node: Node, first_owner: str, *, registered: bool) -> None:
        """A private node below a public one becomes public."""
        before = node.owner
        self._withdraw_names(node)
        self._detach(node)
        node.key.extra_key = node.key.extra_key.extra_key
        node.owner = PUBLIC
        stats = node.ensure_stats()
        stats.first_owner = first_owner
        stats.u_pre = min(1, node.hit_pre)
        if node.hit_cur:
            stats.users.add(before)
        node.state &= ~NO_PROMOTE
        node.state |= REGISTERED if registered else EARNED
        self._reindex(node, before)

    def _reindex(self, node: Node, before: str) -> None:
        """A node's scope changed: find it, and its children, under the new one."""
        parent = node.parent
        assert parent is not None
        self._attach(node, parent)
        for child in node.children.values():
            self._attach(child, node)
        self.device_order.move(node, before, node.device_held)
        self._give_names(node)

    # Demotion

    def _demote_probed(self, last: Node) -> None:
        """Demote the topmost node of a path whose reuse looks like probing."""
        limit, minimum = self.options.tenant_rdr_threshold, self.options.tenant_rdr_min_hits
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
        if suspect is None:
            return
        self._quarantine(suspect)
        logger.warning(
            "A public prefix of %d tokens is private again: %d hits by %d users look like "
            "probing. It stays private for %d epochs.",
            self._depth(suspect),
            suspect.hit_cur + suspect.hit_pre,
            suspect.u_cnt_l + suspect.u_pre,
            self.options.tenant_quarantine_epochs,
        )
        self._demote(suspect)

    def _quarantine(self, node: Node) -> None:
        tokens: array[int] = array("q")
        above: Node | None = node.parent
        while above is not None and above.parent is not None:
            tokens = above.key.token_ids + tokens
            above = above.parent
        start = len(tokens)
        tokens += node.key.token_ids
        until = self.clock.epoch + self.options.tenant_quarantine_epochs
        self.blocklist.quarantine(node.key.extra_key, tokens, start + self.page_size, until)

    def _demote(self, top: Node) -> None:
        """A public node and all public ones below it go back to its first owner; what other
        owners have below is freed, and all of it where the first owner was erased."""
        assert top.stats is not None
        owner = top.stats.first_owner
        self.count("demotions")
        if not owner:  # they were erased
            self._free_subtree_logically(top)
            return
        kept = [top]
        while kept:
            node = kept.pop()
            for child in list(node.children.values()):
                theirs = child.owner or child.ensure_stats().first_owner
                if theirs == owner:
                    kept.append(child)
                else:
                    self._free_subtree_logically(child)
            if not node.owner:
                self._conceal(node, owner)

    def _conceal(self, node: Node, owner: str) -> None:
        """A public node becomes private; its children are of the same first owner."""
        self._withdraw_names(node)
        self._detach(node)
        node.key.extra_key = Namespace(owner, node.key.extra_key)
        node.owner = owner
        node.stats = None
        node.state &= ~(REGISTERED | EARNED)
        self._reindex(node, PUBLIC)

    def _check_sharing(self) -> None:
        """Invariants 1 and 2. Raises AssertionError."""
        for node in (self.root_node, *walk(self.root_node)):
            waiting: dict[Any, dict[str, Node]] = {}
            for key, child in node.children.items():
                assert child.parent is node
                assert key == child.key.child_key(self.page_size)
                extra = child.key.extra_key
                assert child.owner == (extra.owner if type(extra) is Namespace else PUBLIC)
                assert not node.owner or child.owner == node.owner
                if child.owner and not node.owner:
                    page = public_key(key)
                    assert page not in node.children
                    waiting.setdefault(page, {})[child.owner] = child
            assert ((node.stats and node.stats.candidates) or {}) == waiting


def _is_on_device(node: Node) -> bool:
    return node.value is not None
