"""Time as the tree knows it: epochs of admitted requests, never seconds.

Every tensor-parallel rank runs its own tree and must decide the same, so no decision may rest
on a wall clock. A window is the current epoch and the one before.
"""

from __future__ import annotations

from sglang.srt.tenancy.cache.core.node import Node


class EpochCounter:
    """Counts admitted requests; ``epoch_requests`` of them are an epoch."""

    __slots__ = ("_came", "_came_before", "admitted", "epoch", "epoch_requests", "ticks")

    def __init__(self, epoch_requests: int):
        self.epoch_requests = epoch_requests
        self.admitted = 0
        self.epoch = 0
        self.ticks = 0
        # Who came in this epoch, and in the one before: no more than it has requests.
        self._came: set[str] = set()
        self._came_before: set[str] = set()

    def admit(self, user: str = "") -> bool:
        """One more request. Returns whether its user had come in the window before."""
        returns = user in self._came or user in self._came_before
        if user:
            self._came.add(user)
        self.admitted += 1
        if self.admitted % self.epoch_requests == 0:
            self.epoch += 1
            self._came_before, self._came = self._came, set()
        return returns

    def tick(self) -> int:
        """The next moment. Orders touches exactly, where upstream asks the wall clock."""
        self.ticks += 1
        return self.ticks

    def in_window(self, node: Node) -> bool:
        return node.epoch >= self.epoch - 1

    def roll(self, node: Node) -> None:
        """Bring a node's counters to the current epoch."""
        age = self.epoch - node.epoch
        if not age:
            return
        node.epoch = self.epoch
        node.hit_pre = node.hit_cur if age == 1 else 0
        node.hit_cur = 0
        if node.stats is not None:
            node.stats.roll(one_epoch=age == 1)

    def count(self, node: Node, user: str) -> None:
        """One admitted request passes the node. ``user``: as ``account_name`` has it, or whoever
        comes without a name would be somebody else each time."""
        self.roll(node)
        node.hit_cur += 1
        if not node.owner:
            node.ensure_stats().users.add(user)


def reuse_diversity(node: Node) -> float:
    """Distinct users per hit over the window: near 1 for a document, near 0 for a probe."""
    hits = node.hit_cur + node.hit_pre
    return (node.u_cnt_l + node.u_pre) / hits if hits else 1.0
