"""Free what is private to users who have not sent a request for long (``--tenant-idle-ttl``).

The tree looks at no clock: time comes as a message, the same to all ranks, and is what the last
such message said.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from sglang.srt.tenancy.cache.core.node import Node
from sglang.srt.tenancy.cache.erasure import Erased, Erasing
from sglang.srt.tenancy.user_id import account_name

if TYPE_CHECKING:
    from sglang.srt.managers.schedule_batch import Req
    from sglang.srt.mem_cache.radix_cache import RadixKey

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


class IdleExpiry(Erasing):
    last_use: LastUse | None = None

    def reset(self) -> None:
        super().reset()
        ttl = self.options.tenant_idle_ttl
        if ttl and self.last_use is None:
            self.last_use = LastUse(ttl)

    def _settle(self, req: Req, last: Node, inserted: RadixKey | None) -> None:
        super()._settle(req, last, inserted)
        self._note_use(req.user_id)

    def _note_use(self, owner: str | None) -> None:
        if self.last_use is not None:
            self.last_use.use(account_name(owner))

    def erase(self, user: str, requests: Iterable[Req] = ()) -> Erased:
        if self.last_use is not None:
            self.last_use.drop(user)
        return super().erase(user, requests)

    def tick(self, seconds: int, requests: Iterable[Req] = ()) -> int:
        """Take a time that all ranks were told, and free what belongs to idle owners.

        ``requests``: those that the scheduler has; their users are not idle. Of what has expired
        one tick frees a bounded part, the next ones the rest. Returns the device tokens freed.
        """
        last_use = self.last_use
        if last_use is None or not last_use.advance(seconds):
            return 0
        if last_use.oldest_expired() is None:
            return 0
        busy = {req.user_id for req in requests}
        work, freed = WORK_PER_TICK, 0
        while work > 0 and (owner := last_use.oldest_expired()) is not None:
            if owner in busy:
                last_use.use(owner)
                continue
            nodes, work = self._next_to_expire(owner, work - 1)
            freed += sum(node.device_held for node in nodes)
            self._erase_stored(owner, nodes)
            for node in nodes:
                self._free_logically(node)
            if not self.owner_index.tops(owner):
                self._forget_owner(owner)
                last_use.drop(owner)
                self.count("expired_users")
        self.count("expired_tokens", freed)
        return freed

    def _next_to_expire(self, owner: str, work: int) -> tuple[list[Node], int]:
        """Private nodes of an owner, each after those below it, and the work that is left."""
        with_pages = getattr(self, "enable_storage", False)
        nodes: list[Node] = []
        for top in self.owner_index.tops(owner):
            for node in _from_the_leaves(top):
                if work <= 0:
                    return nodes, 0
                nodes.append(node)
                work -= 1 + (len(node.key) // self.page_size if with_pages else 0)
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
