"""Forget a user: what is theirs leaves every tier, and nothing that comes late brings it back."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sglang.srt.tenancy.cache.core.node import Node, walk
from sglang.srt.tenancy.cache.requests import Requests

if TYPE_CHECKING:
    from sglang.srt.managers.schedule_batch import Req


@dataclass(frozen=True, slots=True)
class Erased:
    """Tokens freed on each tier, and what may be left, in words for an operator."""

    device: int
    host: int
    storage: int
    not_reached: tuple[str, ...] = ()


class Erasing(Requests):
    def erase(self, user: str, requests: Iterable[Req] = ()) -> Erased:
        """Free all that is private to a user, on every tier.

        ``requests``: those that the scheduler has now. The user's go on, and insert nothing more.
        A node that one of them reads gives its slots back when that ends. What is public stays,
        and will never be this user's again: if it is demoted, it is freed.
        """
        for req in requests:
            if req.user_id == user:
                req.cache_scope = "none"
        host_order = getattr(self, "host_order", None)
        device = self.device_order.sizes.get(user, 0)
        host = host_order.sizes.get(user, 0) if host_order is not None else 0
        tops = self.owner_index.tops(user)
        nodes = [node for top in tops for node in (top, *walk(top))]
        storage, not_reached = self._erase_stored(user, nodes)
        for top in tops:
            self._free_subtree_logically(top)
        self._forget_owner(user)
        self.count("erasures")
        return Erased(device, host, storage, not_reached)

    def _forget_owner(self, user: str) -> None:
        """Once nothing private to a user is left."""
        self.owner_index.disown(user)
        for order in self._orders():
            order.forget(user)

    def _erase_stored(self, user: str, nodes: list[Node]) -> tuple[int, tuple[str, ...]]:
        """Delete a user's pages from storage, by the names of nodes that are about to go.
        Returns the tokens they held, and what was not reached."""
        return 0, ()
