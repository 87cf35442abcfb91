"""Storage (L3): a user asks for public pages and for their own, and for no others."""

from __future__ import annotations

from typing import Any

import torch

from sglang.srt.managers.cache_controller import STORAGE_BATCH_SIZE
from sglang.srt.mem_cache.hicache_storage import HiCacheStorageExtraInfo
from sglang.srt.mem_cache.radix_cache import RadixKey
from sglang.srt.tenancy.cache.adapters.hiradix.wanted import Wanted
from sglang.srt.tenancy.cache.core.node import LOGICALLY_FREED, PUBLIC, Node
from sglang.srt.tenancy.namespace import Namespace, keeps_out_of_tree


class OwnedStorage:
    """What upstream's storage path needs to know about owners. ``cache``: the hierarchical one.

    Pages that come from storage are private to who asked, whatever their name was: what is
    public is decided here and now.
    """

    def __init__(self, cache: Any):
        self._cache = cache
        self.requester: Any = None  # the request that matched last: upstream prefetches for it next

    def prefetch(
        self,
        req_id: str,
        last_host_node: Node,
        new_input_tokens: Any,
        last_hash: str | None,
        prefix_keys: list[str] | None,
    ) -> None:
        """Look for the rest of a waiting request's prompt, and fetch what is there."""
        cache, req = self._cache, self.requester
        count = len(new_input_tokens) // cache.page_size * cache.page_size
        if (
            not cache.enable_storage
            or count < cache.prefetch_threshold
            or cache.cache_controller.prefetch_rate_limited()
            or req is None
            or req.rid != req_id
            or keeps_out_of_tree(req)
        ):
            return
        start = cache.core.tree.depth(last_host_node)
        if start != len(req.prefix_indices) + req.host_hit_length:
            return  # the device has more than the host: the chain of names has a gap
        wanted = Wanted(new_input_tokens[:count], req.extra_key)
        wanted.above = None
        if not last_host_node.owner:
            wanted.above = RadixKey(req.full_untruncated_fill_ids[:start], req.extra_key)
        wanted.public_pages = self._public_pages(req, start, count)
        last_host_node.protect_host()
        operation = cache.cache_controller.prefetch(
            req_id, wanted, last_hash, prefix_keys, **cache._get_extra_pools()
        )
        cache.ongoing_prefetch[req_id] = (last_host_node, wanted, operation)
        cache.cache_controller.prefetch_tokens_occupied += count

    def _public_pages(self, req: Any, start: int, count: int) -> int:
        """Count the pages that may be asked for as public ones. In storage they outlive a demotion,
        those of a quarantined prefix too, and other replicas' are there."""
        core = self._cache.core
        namespace = req.extra_key
        if not core.selective:
            return 0
        tokens = req.full_untruncated_fill_ids
        memory, extra_key = core.sharing.memory, namespace.extra_key
        end = memory.elsewhere.allowed(extra_key, tokens, start, start + count)
        end = memory.blocklist.allowed(extra_key, tokens, start, end, core.clock.epoch)
        return int((end - start) // self._cache.page_size)

    def find(self, operation: Any) -> tuple[list[str], int]:
        """Find the names of the pages that storage has, and count their tokens. Runs in the
        prefetch thread.

        Public names first, as far as they reach; from there on the owner's. Where that is not
        all: what the owner had stored before the beginning became public.
        """
        wanted: Wanted = operation.token_ids
        page_size = self._cache.page_size
        names = wanted.public_names(operation.last_hash, page_size)
        above = list(operation.prefix_keys or ())
        found = names[: self._count_stored(names, above)]
        last = found[-1] if found else operation.last_hash
        names = wanted.own_names(last, page_size, len(found))
        if above:
            above += found
        below_public = bool(found or wanted.above)
        found += names[: self._count_stored(names, above)]
        if below_public and len(found) * page_size < len(wanted):
            above, names = wanted.names_before_publication(page_size)
            older = names[: self._count_stored(names, above if operation.prefix_keys else [])]
            if len(older) > len(found):
                found = older
                operation.prefix_keys = operation.prefix_keys and above
        return found, len(found) * page_size

    def _count_stored(self, names: list[str], above: list[str]) -> int:
        """Count how many of the first names storage has a page for. ``above``: the names before,
        where the backend wants to know them."""
        found = 0
        for start in range(0, len(names), STORAGE_BATCH_SIZE):
            batch = names[start : start + STORAGE_BATCH_SIZE]
            extra = HiCacheStorageExtraInfo(prefix_keys=above + names[:start] if above else None)
            backend = self._cache.cache_controller.storage_backend
            hits = int(backend.batch_exists(batch, extra))
            found += hits
            if hits < len(batch):
                break
        return found

    def insert_fetched(self, anchor: Node, key: RadixKey, slots: torch.Tensor) -> int:
        """Add fetched pages below the node they were asked for. Returns how many of the tokens
        are not needed after all; their host slots are the caller's to free."""
        core = self._cache.core
        end = len(key)
        namespace = key.extra_key
        owner = namespace.owner if type(namespace) is Namespace else PUBLIC
        if anchor.state & LOGICALLY_FREED or (anchor.owner and anchor.owner != owner):
            return end  # it ceased to be what this owner may see
        node, at = anchor, 0
        node.last_access_time = core.clock.tick()
        nodes, at, partial, shared = core.tree.walk_path(key, end, anchor)
        if partial is not None:
            nodes.append(core.tree.split(partial, shared))
            at += shared
        for node in nodes:
            node.last_access_time = core.clock.tick()
        if at == end or node.host_value is None:
            return end  # nothing is new, or the host would have it without what is before it
        core.tree.grow_on_host(node, key[at:end], slots[at:])
        if owner:
            core.idle.note_use(owner)  # whose request may yet be aborted
        return at
