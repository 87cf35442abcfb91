"""Page names follow the scope: whoever changes sides is withdrawn and announced anew."""

from __future__ import annotations

from typing import Any

from sglang.srt.tenancy.cache.adapters.hiradix.hashes import ensure_hashes
from sglang.srt.tenancy.cache.core.node import Node, walk
from sglang.srt.tenancy.cache.tree import OwnedTree


class Named(OwnedTree):
    """KV events, and the hashes that storage and events call pages by (``hashes.py``)."""

    def _has_names(self) -> bool:
        return bool(self.enable_kv_cache_events)

    def _record_store_event(self, node: Node, medium: Any = None) -> None:
        if self._is_announced(node):
            super()._record_store_event(node, medium)

    def _record_remove_event(self, node: Node, medium: Any = None) -> None:
        if self._is_announced(node):
            super()._record_remove_event(node, medium)

    def _is_announced(self, node: Node) -> bool:
        """Whether KV events tell of a node; if so, its page hashes are there."""
        if not self.enable_kv_cache_events:
            return False
        if node.owner and not self.options.tenant_publish_private_events:
            return False
        ensure_hashes(node, self.page_size)
        return True

    def _withdraw_names(self, top: Node) -> None:
        """Before a node changes sides: its page hashes, and those of all below, will be others."""
        if not self._has_names():
            return
        for node in (top, *walk(top)):
            self._announce_gone(node)
            node.hash_value = None

    def _give_names(self, top: Node) -> None:
        if not self._has_names():
            return
        for node in (top, *walk(top)):
            ensure_hashes(node, self.page_size)
            self._announce_there(node)

    def _announce_gone(self, node: Node) -> None:
        if node.value is not None:
            self._record_remove_event(node)

    def _announce_there(self, node: Node) -> None:
        if node.value is not None:
            self._record_store_event(node)

    def _grow(self, *args: Any) -> Node:
        leaf = super()._grow(*args)
        if self._has_names():
            ensure_hashes(leaf, self.page_size)
        return leaf
