"""Forget a user in storage (L3), with the reads and writes that are under way."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sglang.srt.tenancy.cache.adapters.hiradix.hashes import ensure_hashes, names_before_publication
from sglang.srt.tenancy.cache.adapters.hiradix.stored_pages import can_delete, delete_pages
from sglang.srt.tenancy.cache.core.node import LOGICALLY_FREED, Node
from sglang.srt.tenancy.cache.idle import IdleExpiry
from sglang.srt.tenancy.cache.storage import OwnedStorage
from sglang.srt.tenancy.namespace import Namespace

if TYPE_CHECKING:
    from sglang.srt.mem_cache.radix_cache import RadixKey

_FORGOTTEN_BY_TREE = (
    "storage: pages that both device and host had evicted, and some from before a prefix became "
    "public or private: their names cannot be computed any more"
)


class StorageErasing(IdleExpiry, OwnedStorage):
    # Writes that were under way, and the names to delete when all of them have ended.
    _late_writes: list[tuple[set[int], list[str]]]

    def reset(self) -> None:
        late = getattr(self, "_late_writes", [])
        super().reset()  # ends all writes
        self._late_writes = [(set(), names) for _, names in late]
        self._delete_late_writes()

    def _erase_stored(self, user: str, nodes: list[Node]) -> tuple[int, tuple[str, ...]]:
        if not self.enable_storage:
            return 0, ()
        self._drop_prefetches(user)
        backend = self.cache_controller.storage_backend
        if not can_delete(backend):
            return 0, (f"storage: {type(backend).__name__} cannot delete pages",)
        writes = {key: node for key, node in self.ongoing_backup.items() if node.owner == user}
        names: dict[str, None] = {}
        for node in nodes:
            ensure_hashes(node, self.page_size)
        for node in (*nodes, *writes.values()):
            names.update(dict.fromkeys(node.hash_value or ()))
        names.update(dict.fromkeys(names_before_publication(nodes, self.page_size)))
        if writes:
            self._late_writes.append((set(writes), list(names)))
        return delete_pages(backend, list(names)) * self.page_size, (_FORGOTTEN_BY_TREE,)

    def _drop_prefetches(self, user: str) -> None:
        """Have what is being read for a user's waiting requests come to nothing: it ends, as
        always, but below a node that is in no tree, where fetched pages are dropped."""
        for req_id, (anchor, wanted, operation) in self.ongoing_prefetch.items():
            namespace = wanted.extra_key
            if type(namespace) is not Namespace or namespace.owner != user:
                continue
            nowhere = Node(wanted[:0], None, self.clock.tick(), self.clock.epoch, 0)
            nowhere.state |= LOGICALLY_FREED
            nowhere.protect_host()
            anchor.release_host()
            self.ongoing_prefetch[req_id] = (nowhere, wanted, operation)

    def _insert_helper_host(self, anchor: Node, key: RadixKey, *fetched: Any) -> int:
        dropped = super()._insert_helper_host(anchor, key, *fetched)
        if dropped < len(key) and type(key.extra_key) is Namespace:
            self._note_use(key.extra_key.owner)  # whose request may yet be aborted
        return dropped

    def check_hicache_events(self) -> None:
        super().check_hicache_events()
        if self._late_writes:
            self._delete_late_writes()

    def _delete_late_writes(self) -> None:
        waiting = []
        for writes, names in self._late_writes:
            if writes & self.ongoing_backup.keys() or not self.enable_storage:
                waiting.append((writes, names))
            else:
                delete_pages(self.cache_controller.storage_backend, names)
        self._late_writes = waiting
