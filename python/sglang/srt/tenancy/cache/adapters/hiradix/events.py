"""KV events, and the hashes that storage and events call pages by (``hashes.py``).

Names follow the scope: whoever changes sides is withdrawn and announced anew.
"""

from __future__ import annotations

from typing import Any

from sglang.srt.mem_cache.events import StorageMedium
from sglang.srt.mem_cache.utils import split_node_hash_value
from sglang.srt.tenancy.cache.adapters.hiradix.hashes import ensure_hashes
from sglang.srt.tenancy.cache.core.interfaces import TierName
from sglang.srt.tenancy.cache.core.node import Node, walk

_MEDIUM = {TierName.DEVICE: StorageMedium.GPU, TierName.HOST: StorageMedium.CPU}


class KVEventPublisher:
    """``cache``: the tenant cache whose events these are.

    ``publish_private``: whether events tell of private blocks.
    """

    def __init__(self, cache: Any, publish_private: bool):
        self._cache = cache
        self._publish_private = publish_private

    def has_names(self) -> bool:
        """Tell whether anybody calls pages by name now."""
        cache = self._cache
        return bool(cache.enable_kv_cache_events or getattr(cache, "enable_storage", False))

    def is_announced(self, node: Node) -> bool:
        """Tell whether KV events tell of a node; if so, its page hashes are there."""
        if not self._cache.enable_kv_cache_events:
            return False
        if node.owner and not self._publish_private:
            return False
        ensure_hashes(node, self._cache.page_size)
        return True

    def stored(self, node: Node, tier: TierName) -> None:
        self._cache._record_store_event(node, medium=_MEDIUM[tier])

    def removed(self, node: Node, tier: TierName) -> None:
        self._cache._record_remove_event(node, medium=_MEDIUM[tier])

    def created(self, node: Node) -> None:
        if self.has_names():
            ensure_hashes(node, self._cache.page_size)
            self._stored_everywhere(node)

    def removed_everywhere(self, node: Node) -> None:
        if not self._cache.enable_kv_cache_events:
            return
        if node.value is not None:
            self.removed(node, TierName.DEVICE)
        if node.host_value is not None:
            self.removed(node, TierName.HOST)

    def _stored_everywhere(self, node: Node) -> None:
        if node.value is not None:
            self.stored(node, TierName.DEVICE)
        if node.host_value is not None and node.write_through_pending_id is None:
            self.stored(node, TierName.HOST)

    def withdraw(self, top: Node) -> None:
        if not self.has_names():
            return
        for node in (top, *walk(top)):
            self.removed_everywhere(node)
            node.hash_value = None

    def announce(self, top: Node) -> None:
        if not self.has_names():
            return
        nodes = (top, *walk(top))
        for node in nodes:
            ensure_hashes(node, self._cache.page_size)
            self._stored_everywhere(node)
        if getattr(self._cache, "enable_storage", False):
            for node in nodes:
                if node.host_value is not None and node.write_through_pending_id is None:
                    self._cache.write_backup_storage(node)  # under its new names

    def split(self, upper: Node, lower: Node, tokens: int) -> None:
        upper.hash_value, lower.hash_value = split_node_hash_value(
            lower.hash_value, tokens, self._cache.page_size
        )

    def join(self, node: Node, child: Node) -> None:
        if node.hash_value is not None and child.hash_value is not None:
            child.hash_value = node.hash_value + child.hash_value
        else:
            child.hash_value = None
