"""Does the tree keep its promises? For tests, and for comparing ranks."""

from __future__ import annotations

import hashlib

from sglang.srt.tenancy.cache.core.node import LOGICALLY_FREED, PUBLIC, Node, walk
from sglang.srt.tenancy.cache.core.order import EvictionOrder
from sglang.srt.tenancy.cache.sharing import Sharing


class Checked(Sharing):
    def sanity_check(self) -> None:
        """Raise AssertionError where an invariant of the design does not hold."""
        self._check_sharing()
        self.owner_index.check(self.root_node)
        slots = self._check_logically_freed()
        sizes: dict[str, int] = {}
        evictable = protected = 0
        for node in walk(self.root_node):
            self._check_node(node)
            if node.value is None:
                continue
            sizes[node.owner] = sizes.get(node.owner, 0) + len(node.key)
            evictable += 0 if node.lock_ref else len(node.key)
            protected += len(node.key) if node.lock_ref else 0
            held = set(node.value.tolist())
            assert len(held) == len(node.key), "a slot twice in one node"
            assert not held & slots, "a slot in two places"
            slots |= held
        assert sizes == self.device_order.sizes, (sizes, self.device_order.sizes)
        assert (evictable, protected) == (self.evictable_size_, self.protected_size_)
        self._check_share(self.device_order, self.evictable_leaves)
        self._check_tiers()

    def _check_node(self, node: Node) -> None:
        parent = node.parent
        assert parent is not None
        assert not node.state & LOGICALLY_FREED
        assert len(node.key)
        assert len(node.key) % self.page_size == 0
        children = list(node.children.values())
        assert node.lock_ref >= sum(child.lock_ref for child in children)
        on_device = [child for child in children if child.value is not None]
        assert node.device_children == len(on_device)
        if node.value is None:
            assert not on_device
            assert not node.lock_ref
            assert node.host_value is not None
        else:
            assert len(node.value) == len(node.key)
        leaf = node.value is not None and not node.lock_ref and not on_device
        assert (node in self.evictable_leaves) == leaf

    def _check_share(self, order: EvictionOrder, leaves: set[Node]) -> None:
        """Whoever holds more than their share of a tier has nothing left to give."""
        if order.quota is None:
            return
        for owner in {leaf.owner for leaf in leaves}:
            allowed = order.quota.of(owner)
            assert allowed is None or order.sizes[owner] <= allowed, (order.sizes, allowed)

    def _check_tiers(self) -> None:
        pass

    def digest(self) -> str:
        """A hash of all that was decided so far: equal on all ranks after equal messages."""
        state = hashlib.blake2b(digest_size=16)
        clock = self.clock
        state.update(repr((clock.admitted, clock.epoch, clock.ticks)).encode())
        state.update(repr(sorted(self.device_order.sizes.items())).encode())
        stack: list[Node] = [self.root_node]
        while stack:
            node = stack.pop()
            state.update(
                repr(
                    (
                        node.owner or PUBLIC,
                        node.key.extra_key if not node.owner else node.key.extra_key.extra_key,
                        node.lock_ref,
                        node.last_access_time,
                        (node.epoch, node.hit_cur, node.hit_pre, node.u_cnt_l, node.u_pre),
                        node.value is None,
                        node.host_value is None,
                        node.state,
                        node.asked_again,
                        len(node.children),
                    )
                ).encode()
            )
            state.update(node.key.token_ids.tobytes())
            stack.extend(node.children.values())
        return state.hexdigest()
