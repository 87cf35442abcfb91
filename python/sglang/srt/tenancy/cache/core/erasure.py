"""Forget a user: what is theirs leaves every tier, and nothing that comes late brings it back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from sglang.srt.tenancy.cache.core.node import Node, walk
from sglang.srt.tenancy.cache.core.order import EvictionOrder
from sglang.srt.tenancy.cache.core.tree import PrefixTree


@dataclass(frozen=True, slots=True)
class Erased:
    """Tokens freed on each tier, and what may be left, in words for an operator."""

    device: int
    host: int
    storage: int
    not_reached: tuple[str, ...] = ()


class StoredPages(Protocol):
    """Pages in storage (L3)."""

    def erase(self, user: str, nodes: Sequence[Node]) -> tuple[int, tuple[str, ...]]:
        """Delete a user's pages by the names of nodes that are about to go. Returns the tokens
        they held, and what was not reached, in words for an operator."""

    def work(self, node: Node) -> int:
        """Count the pages that erasing a node deletes."""


class NoStorage:
    def erase(self, user: str, nodes: Sequence[Node]) -> tuple[int, tuple[str, ...]]:
        return 0, ()

    def work(self, node: Node) -> int:
        return 0


class Eraser:
    """``orders``: those of all tiers, the device's first."""

    def __init__(self, tree: PrefixTree, orders: Sequence[EvictionOrder], storage: StoredPages):
        self._tree = tree
        self._orders = orders
        self.storage = storage

    def erase(self, user: str) -> Erased:
        """Free all that is private to a user, on every tier.

        A node that a request reads gives its slots back when that ends. What is public stays,
        and will never be this user's again: if it is demoted, it is freed.
        """
        tree = self._tree
        device, host = [*(order.sizes.get(user, 0) for order in self._orders), 0][:2]
        tops = tree.owners.tops(user)
        nodes = [node for top in tops for node in (top, *walk(top))]
        storage, not_reached = self.storage.erase(user, nodes)
        for top in tops:
            tree.logical.free_subtree(top)
        self.forget_owner(user)
        tree.logical.counts["erasures"] += 1
        tree.changes.note("erased", tree.clock.epoch, device, user)
        return Erased(device, host, storage, not_reached)

    def forget_owner(self, user: str) -> None:
        """Drop what stands for an owner, once nothing private to them is left."""
        self._tree.owners.disown(user)
        for order in self._orders:
            order.forget(user)
