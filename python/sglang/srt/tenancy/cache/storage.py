"""Storage (L3): a user asks for public pages and for their own, and for no others."""

from __future__ import annotations

from typing import Any

import torch

from sglang.srt.mem_cache.hicache_storage import HiCacheStorageExtraInfo
from sglang.srt.mem_cache.hiradix_cache import HiRadixCache
from sglang.srt.mem_cache.radix_cache import RadixKey
from sglang.srt.tenancy.cache.hashes import ensure_hashes, page_hashes, tag
from sglang.srt.tenancy.cache.node import CONFINED, DISPLACED, Node, walk
from sglang.srt.tenancy.cache.tree import common_prefix
from sglang.srt.tenancy.cache.within_share import WithinShare
from sglang.srt.tenancy.ownership import Namespace, keeps_out_of_tree


class Wanted(RadixKey):
    """The tokens to look for in storage, and whose names they may have.

    ``public_pages``: how many of the first pages may be asked for under public names.
    ``above``: hash of the page before the first.
    """

    __slots__ = ("above_is_public", "public_pages")

    def hashes(self, above: str | None, page_size: int, public_pages: int) -> list[str]:
        """The names of all pages if the first ``public_pages`` of them are public."""
        namespace = self.extra_key
        owned = type(namespace) is Namespace
        if not self.above_is_public:
            return page_hashes(self, above, page_size)
        plain = namespace.extra_key if owned else namespace
        split = public_pages * page_size if owned else len(self)
        start = tag("", plain, above) if above is None else above
        public = page_hashes(self[:split], start, page_size) if split else []
        if not owned or split >= len(self):
            return public
        above = public[-1] if public else above
        return public + page_hashes(self[split:], tag(namespace.owner, plain, above), page_size)


class OwnedStorage(WithinShare, HiRadixCache):
    """What upstream's storage path needs to know about owners.

    Pages that come from storage are private to who asked, whatever their name was: what is
    public is decided here and now.
    """

    _asker: Any = None  # the request that matched last: upstream prefetches for it next

    def _has_names(self) -> bool:
        return bool(self.enable_kv_cache_events or self.enable_storage)

    def match_prefix(self, params: Any) -> Any:
        if self.enable_storage:
            self._asker = params.req
        return super().match_prefix(params)

    def get_last_hash_value(self, node: Node) -> str | None:
        ensure_hashes(node, self.page_size)
        return node.get_last_hash_value()

    def prefetch_from_storage(
        self,
        req_id: str,
        last_host_node: Node,
        new_input_tokens: Any,
        last_hash: str | None = None,
        prefix_keys: list[str] | None = None,
    ) -> None:
        """Look for the rest of a waiting request's prompt, and fetch what is there."""
        req = self._asker
        count = len(new_input_tokens) // self.page_size * self.page_size
        if (
            not self.enable_storage
            or count < self.prefetch_threshold
            or self.cache_controller.prefetch_rate_limited()
            or req is None
            or req.rid != req_id
            or keeps_out_of_tree(req)
        ):
            return
        start = self._depth(last_host_node)
        if start != len(req.prefix_indices) + req.host_hit_length:
            return  # the device has more than the host: the chain of names has a gap
        wanted = Wanted(new_input_tokens[:count], req.extra_key)
        wanted.above_is_public = not last_host_node.owner
        wanted.public_pages = self._public_pages(req, start, count)
        last_host_node.protect_host()
        operation = self.cache_controller.prefetch(
            req_id, wanted, last_hash, prefix_keys, **self._get_extra_pools()
        )
        self.ongoing_prefetch[req_id] = (last_host_node, wanted, operation)
        self.cache_controller.prefetch_tokens_occupied += count

    def _public_pages(self, req: Any, start: int, count: int) -> int:
        """Public pages outlive a demotion in storage: those of a quarantined prefix stay there."""
        if self.options.tenant_mode != "selective":
            return 0
        plain = req.extra_key.extra_key
        tokens = req.full_untruncated_fill_ids
        end = self.bans.allowed(plain, tokens, start, start + count, self.clock.epoch)
        return int((end - start) // self.page_size)

    def attach_storage_backend(self, *args: Any, **kwargs: Any) -> tuple[bool, str]:
        attached: tuple[bool, str] = super().attach_storage_backend(*args, **kwargs)
        self._ask_storage_by_owner()
        return attached

    def _ask_storage_by_owner(self) -> None:
        self.cache_controller._storage_hit_query = self._storage_hit_query

    def _storage_hit_query(self, operation: Any) -> tuple[list[str], int]:
        """Names of the pages that storage has, and their tokens. Runs in the prefetch thread.

        Public names first, as far as they reach; from there on the owner's.
        """
        wanted: Wanted = operation.token_ids
        above, page = operation.last_hash, self.page_size
        names = wanted.hashes(above, page, wanted.public_pages)
        if type(wanted.extra_key) is Namespace and wanted.above_is_public:
            public = self._stored(names[: wanted.public_pages], operation.prefix_keys)
            names = wanted.hashes(above, page, public)
        found = self._stored(names, operation.prefix_keys)
        return names[:found], found * page

    def _stored(self, names: list[str], prefix_keys: list[str] | None) -> int:
        """How many of the first names storage has a page for."""
        backend = self.cache_controller.storage_backend
        if not names:
            return 0
        return int(backend.batch_exists(names, HiCacheStorageExtraInfo(prefix_keys=prefix_keys)))

    def _insert_helper_host(
        self, anchor: Node, key: RadixKey, host_value: torch.Tensor, hash_value: list[str]
    ) -> int:
        """Hang fetched pages below the node they were asked for. Returns how many of the tokens
        are not needed after all; their host slots are the caller's to free."""
        end = len(key)
        if anchor.state & DISPLACED:
            return end
        node, at = anchor, 0
        node.last_access_time = self.clock.tick()
        while at < end:
            child = self.child_of(node, key, at)
            if child is None:
                break
            child.last_access_time = self.clock.tick()
            stored = child.key.token_ids
            shared = common_prefix(stored, key.token_ids, at, end)
            if shared < len(stored):
                shared = shared // self.page_size * self.page_size
                child = self._split_node(child.key, child, shared)
            at += shared
            node = child
        if at == end or node.host_value is None:
            return end  # nothing is new, or the host would have it without what is before it
        leaf = Node(key[at:end], node, self.clock.tick(), self.clock.epoch, node.priority)
        leaf.host_value = host_value[at:].clone()
        leaf.state |= CONFINED  # until its owner's requests come by
        self._attach(leaf, node)
        ensure_hashes(leaf, self.page_size)
        self._update_host_leaf_status(leaf)
        self._update_leaf_status(node)
        self._update_host_leaf_status(node)
        self._announce_there(leaf)
        return at

    def _give_names(self, top: Node) -> None:
        super()._give_names(top)
        if not self.enable_storage:
            return
        for node in (top, *walk(top)):
            if node.host_value is not None and node.write_through_pending_id is None:
                self.write_backup_storage(node)  # under its new names

    def write_backup_storage(self, node: Node, backup_len: int | None = None) -> None:
        if node.state & DISPLACED:
            return  # what took its place is written under its own names
        ensure_hashes(node, self.page_size)
        super().write_backup_storage(node, backup_len)

    def _announce_gone(self, node: Node) -> None:
        from sglang.srt.mem_cache.events import StorageMedium

        super()._announce_gone(node)
        if node.host_value is not None:
            self._record_remove_event(node, medium=StorageMedium.CPU)

    def _announce_there(self, node: Node) -> None:
        from sglang.srt.mem_cache.events import StorageMedium

        super()._announce_there(node)
        if node.host_value is None or node.write_through_pending_id is not None:
            return
        self._record_store_event(node, medium=StorageMedium.CPU)
