"""Storage (L3): a user asks for public pages and for their own, and for no others."""

from __future__ import annotations

from typing import Any

import torch

from sglang.srt.managers.cache_controller import STORAGE_BATCH_SIZE
from sglang.srt.mem_cache.events import StorageMedium
from sglang.srt.mem_cache.hicache_storage import HiCacheStorageExtraInfo
from sglang.srt.mem_cache.hiradix_cache import HiRadixCache
from sglang.srt.mem_cache.radix_cache import RadixKey
from sglang.srt.tenancy.cache.adapters.hiradix.hashes import ensure_hashes, page_hashes, tag
from sglang.srt.tenancy.cache.core.node import LOGICALLY_FREED, NO_PROMOTE, PUBLIC, Node, walk
from sglang.srt.tenancy.cache.tree import common_prefix
from sglang.srt.tenancy.cache.within_share import WithinShare
from sglang.srt.tenancy.namespace import Namespace, keeps_out_of_tree


class Wanted(RadixKey):
    """The tokens to look for in storage, and whose names they may have.

    ``public_pages``: how many of the first pages may be asked for under public names.
    ``above``: the tokens before, where they are public, or None.
    """

    __slots__ = ("above", "public_pages")

    @property
    def above_is_public(self) -> bool:
        return self.above is not None

    def public_names(self, above: str | None, page_size: int) -> list[str]:
        """``above``: hash of the page before the first. Without an owner all names are public."""
        namespace = self.extra_key
        if type(namespace) is not Namespace:
            plain, end = namespace, len(self)
        elif self.above_is_public:
            plain, end = namespace.extra_key, self.public_pages * page_size
        else:
            return []
        start = tag("", plain, above) if above is None else above
        return page_hashes(self[:end], start, page_size) if end else []

    def own_names(self, above: str | None, page_size: int, public: int) -> list[str]:
        """Those of the pages behind ``public`` public ones; ``above``: hash of the last of them."""
        namespace, rest = self.extra_key, self[public * page_size :]
        if type(namespace) is not Namespace or not len(rest):
            return []
        if self.above_is_public:
            above = tag(namespace.owner, namespace.extra_key, above)
        return page_hashes(rest, above, page_size)

    def names_before_publication(self, page_size: int) -> tuple[list[str], list[str]]:
        """What the owner's pages were called when nothing before them was public: of the tokens
        above, and of these."""
        namespace = self.extra_key
        if type(namespace) is not Namespace or self.above is None:
            return [], []
        above, last = [], tag(namespace.owner, namespace.extra_key, None)
        if len(self.above):
            above = page_hashes(self.above, last, page_size)
            last = above[-1]
        return above, page_hashes(self, last, page_size)


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
        wanted.above = None
        if not last_host_node.owner:
            wanted.above = RadixKey(req.full_untruncated_fill_ids[:start], req.extra_key)
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
        end = self.blocklist.allowed(plain, tokens, start, start + count, self.clock.epoch)
        return int((end - start) // self.page_size)

    def attach_storage_backend(self, *args: Any, **kwargs: Any) -> tuple[bool, str]:
        if kwargs.get("hicache_write_policy") == "write_back":
            return False, (
                "hicache_write_policy: write_back is not supported with --enable-tenant-cache; "
                "use write_through or write_through_selective"
            )
        if not self._has_names():
            # Scopes may have changed while nobody had use for names.
            for node in walk(self.root_node):
                node.hash_value = None
        attached: tuple[bool, str] = super().attach_storage_backend(*args, **kwargs)
        self._ask_storage_by_owner()
        return attached

    def check_prefetch_progress(self, req_id: str) -> bool:
        """Whether a request need not wait for storage; what was fetched is in the tree then."""
        done = bool(super().check_prefetch_progress(req_id))
        if self.shares is not None:
            self._keep_within_shares()
        return done

    def detach_storage_backend(self) -> tuple[bool, str]:
        detached: tuple[bool, str] = super().detach_storage_backend()
        if self.shares is not None:
            self._keep_within_shares()  # what was being backed up can be evicted again
        return detached

    def _ask_storage_by_owner(self) -> None:
        self.cache_controller._storage_hit_query = self._storage_hit_query

    def _storage_hit_query(self, operation: Any) -> tuple[list[str], int]:
        """Names of the pages that storage has, and their tokens. Runs in the prefetch thread.

        Public names first, as far as they reach; from there on the owner's. Where that is not
        all: what the owner had stored before the beginning became public.
        """
        wanted: Wanted = operation.token_ids
        names = wanted.public_names(operation.last_hash, self.page_size)
        above = list(operation.prefix_keys or ())
        found = names[: self._stored(names, above)]
        last = found[-1] if found else operation.last_hash
        names = wanted.own_names(last, self.page_size, len(found))
        if above:
            above += found
        below_public = bool(found or wanted.above)
        found += names[: self._stored(names, above)]
        if below_public and len(found) * self.page_size < len(wanted):
            above, names = wanted.names_before_publication(self.page_size)
            older = names[: self._stored(names, above if operation.prefix_keys else [])]
            if len(older) > len(found):
                found = older
                operation.prefix_keys = operation.prefix_keys and above
        return found, len(found) * self.page_size

    def _stored(self, names: list[str], above: list[str]) -> int:
        """How many of the first names storage has a page for. ``above``: the names before, where
        the backend wants to know them."""
        found = 0
        for start in range(0, len(names), STORAGE_BATCH_SIZE):
            batch = names[start : start + STORAGE_BATCH_SIZE]
            extra = HiCacheStorageExtraInfo(prefix_keys=above + names[:start] if above else None)
            hits = int(self.cache_controller.storage_backend.batch_exists(batch, extra))
            found += hits
            if hits < len(batch):
                break
        return found

    def _insert_helper_host(
        self, anchor: Node, key: RadixKey, host_value: torch.Tensor, hash_value: list[str]
    ) -> int:
        """Hang fetched pages below the node they were asked for. Returns how many of the tokens
        are not needed after all; their host slots are the caller's to free."""
        end = len(key)
        namespace = key.extra_key
        owner = namespace.owner if type(namespace) is Namespace else PUBLIC
        if anchor.state & LOGICALLY_FREED or (anchor.owner and anchor.owner != owner):
            return end  # it ceased to be what this owner may see
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
        leaf.state |= NO_PROMOTE  # until its owner's requests come by
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
        if node.state & LOGICALLY_FREED:
            return  # what took its place is written under its own names
        ensure_hashes(node, self.page_size)
        super().write_backup_storage(node, backup_len)

    def _announce_gone(self, node: Node) -> None:
        super()._announce_gone(node)
        if node.host_value is not None:
            self._record_remove_event(node, medium=StorageMedium.CPU)

    def _announce_there(self, node: Node) -> None:
        super()._announce_there(node)
        if node.host_value is None or node.write_through_pending_id is not None:
            return
        self._record_store_event(node, medium=StorageMedium.CPU)
