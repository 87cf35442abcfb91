"""Forget a user in storage (L3), with the reads and writes that are under way."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sglang.srt.tenancy.cache.adapters.hiradix.hashes import (
    ensure_hashes,
    names_before_publication,
)
from sglang.srt.tenancy.cache.adapters.hiradix.stored_pages import can_delete, delete_pages
from sglang.srt.tenancy.cache.core.node import LOGICALLY_FREED, Node
from sglang.srt.tenancy.namespace import Namespace

_FORGOTTEN_BY_TREE = (
    "storage: pages that both device and host had evicted, and some from before a prefix became "
    "public or private: their names cannot be computed any more"
)


class StorageErasure:
    """``cache``: the hierarchical tenant cache."""

    def __init__(self, cache: Any):
        self._cache = cache
        # Writes that were under way, and the names to delete when all of them have ended.
        self._late_writes: list[tuple[set[int], list[str]]] = []

    def erase(self, user: str, nodes: Sequence[Node]) -> tuple[int, tuple[str, ...]]:
        """As ``StoredPages.erase``."""
        cache = self._cache
        if not cache.enable_storage:
            return 0, ()
        self._drop_prefetches(user)
        backend = cache.cache_controller.storage_backend
        if not can_delete(backend):
            return 0, (f"storage: {type(backend).__name__} cannot delete pages",)
        writes = {key: node for key, node in cache.ongoing_backup.items() if node.owner == user}
        names: dict[str, None] = {}
        for node in nodes:
            ensure_hashes(node, cache.page_size)
        for node in (*nodes, *writes.values()):
            names.update(dict.fromkeys(node.hash_value or ()))
        names.update(dict.fromkeys(names_before_publication(nodes, cache.page_size)))
        if writes:
            self._late_writes.append((set(writes), list(names)))
        return delete_pages(backend, list(names)) * cache.page_size, (_FORGOTTEN_BY_TREE,)

    def work(self, node: Node) -> int:
        """As ``StoredPages.work``."""
        cache = self._cache
        return len(node.key) // int(cache.page_size) if cache.enable_storage else 0

    def _drop_prefetches(self, user: str) -> None:
        """Have what is being read for a user's waiting requests come to nothing: it ends, as
        always, but below a node that is in no tree, where fetched pages are dropped."""
        cache = self._cache
        for req_id, (anchor, wanted, operation) in cache.ongoing_prefetch.items():
            namespace = wanted.extra_key
            if type(namespace) is not Namespace or namespace.owner != user:
                continue
            clock = cache.core.clock
            nowhere = Node(wanted[:0], None, clock.tick(), clock.epoch, 0)
            nowhere.state |= LOGICALLY_FREED
            nowhere.protect_host()
            anchor.release_host()
            cache.ongoing_prefetch[req_id] = (nowhere, wanted, operation)

    def all_writes_ended(self) -> None:
        """Delete what late writes have left: a flush has ended them."""
        self._late_writes = [(set(), names) for _, names in self._late_writes]
        self.check()

    def check(self) -> None:
        """Delete what late writes that have ended have left."""
        cache, waiting = self._cache, []
        for writes, names in self._late_writes:
            if writes & cache.ongoing_backup.keys() or not cache.enable_storage:
                waiting.append((writes, names))
            else:
                delete_pages(cache.cache_controller.storage_backend, names)
        self._late_writes = waiting
