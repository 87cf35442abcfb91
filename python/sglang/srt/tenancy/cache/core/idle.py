"""Free what is private to users who have not sent a request for long (``--tenant-idle-ttl``).

The tree looks at no clock: time comes as a message, the same to all ranks, and is what the last
such message said.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator

from sglang.srt.tenancy.cache.core.erasure import Eraser
from sglang.srt.tenancy.cache.core.node import Node
from sglang.srt.tenancy.cache.core.tree import PrefixTree
from sglang.srt.tenancy.user_id import account_name

# What one tick may free, in nodes and, where there is storage, pages: some ten milliseconds.
WORK_PER_TICK = 4096


class LastUse:
    """Owners in the order of their last request. Bounded: whoever expires is dropped.

    ``ttl``: seconds. Times are seconds since the first tick.
    """

    def __init__(self, ttl: float):
        self.ttl = ttl
        self.now = 0.0
        self._first: float | None = None
        self._used: OrderedDict[str, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._used)

    def use(self, owner: str) -> None:
        """An owner is active now."""
        self._used[owner] = self.now
        self._used.move_to_end(owner)

    def advance(self, seconds: float) -> bool:
        """Take a tick. False for one that is no later than those before."""
        if self._first is None:
            self._first = seconds
        elif seconds - self._first <= self.now:
            return False
        self.now = seconds - self._first
        return True

    def oldest_expired(self) -> str | None:
        """The owner idle for longest, if that is longer than the time to live."""
        owner = next(iter(self._used), None)
        return owner if owner is not None and self._used[owner] + self.ttl < self.now else None

    def drop(self, owner: str) -> None:
        self._used.pop(owner, None)


class IdleExpiry:
    """``last_use``: None where nobody expires."""

    def __init__(self, tree: PrefixTree, eraser: Eraser, last_use: LastUse | None):
        self._tree = tree
        self._eraser = eraser
        self.last_use = last_use

    def note_use(self, owner: str | None) -> None:
        if self.last_use is not None:
            self.last_use.use(account_name(owner))

    def drop(self, owner: str) -> None:
        """Forget when an owner, who is erased, was active."""
        if self.last_use is not None:
            self.last_use.drop(owner)

    def tick(self, seconds: int, users: Iterable[str | None]) -> int:
        """Take a time that all ranks were told, and free what belongs to idle owners.

        ``users``: those of the requests that the scheduler has, who are not idle; looked at only
        where somebody is. Of what has expired one tick frees a bounded part, the next ones the
        rest. Returns the device tokens freed.
        """
        last_use = self.last_use
        if last_use is None or not last_use.advance(seconds):
            return 0
        if last_use.oldest_expired() is None:
            return 0
        busy = set(users)
        tree, counts = self._tree, self._tree.logical.counts
        work, freed = WORK_PER_TICK, 0
        while work > 0 and (owner := last_use.oldest_expired()) is not None:
            if owner in busy:
                last_use.use(owner)
                continue
            nodes, work = self._next_to_expire(owner, work - 1)
            freed += sum(node.device_held for node in nodes)
            self._eraser.storage.erase(owner, nodes)
            for node in nodes:
                tree.logical.free(node)
            if not tree.owners.tops(owner):
                self._eraser.forget_owner(owner)
                last_use.drop(owner)
                counts["expired_users"] += 1
        counts["expired_tokens"] += freed
        if work < WORK_PER_TICK:  # once for all of them: there may be thousands
            tree.changes.note("expired", tree.clock.epoch, freed)
        return freed

    def _next_to_expire(self, owner: str, work: int) -> tuple[list[Node], int]:
        """Choose private nodes of an owner, those below first; and say what work is left."""
        nodes: list[Node] = []
        for top in self._tree.owners.tops(owner):
            for node in _from_the_leaves(top):
                if work <= 0:
                    return nodes, 0
                nodes.append(node)
                work -= 1 + self._eraser.storage.work(node)
        return nodes, work


def _from_the_leaves(top: Node) -> Iterator[Node]:
    """A node and all below it, each after those below it."""
    stack = [(top, iter(top.children.values()))]
    while stack:
        node, children = stack[-1]
        child = next(children, None)
        if child is None:
            stack.pop()
            yield node
        else:
            stack.append((child, iter(child.children.values())))
