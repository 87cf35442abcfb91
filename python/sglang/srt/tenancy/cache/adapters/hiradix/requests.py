"""What a request leaves in the tree, while it runs and when it ends.

The tree may change under a request. It owns the slots from ``cache_protected_len`` on; those before
belong to nodes that it has locked through ``last_node``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from sglang.srt.mem_cache.radix_cache import RadixKey
from sglang.srt.tenancy.cache.core.node import LOGICALLY_FREED, Node
from sglang.srt.tenancy.cache.core.tree import Path
from sglang.srt.tenancy.namespace import keeps_out_of_tree, stays_private
from sglang.srt.tenancy.usage import SCOPES, Found, UsageCounter
from sglang.srt.tenancy.user_id import account_name, is_own

if TYPE_CHECKING:
    from sglang.srt.managers.schedule_batch import Req
    from sglang.srt.tenancy.cache.core.cache import OwnedCache

_SOURCES = ("device", "host", "storage")


class RequestInserter:
    """Serves the scheduler's two calls for a request. ``cache``: the tenant cache.

    ``report_cached``: as ``--tenant-report-cached``.
    """

    def __init__(self, cache: Any, core: OwnedCache, usage: UsageCounter, report_cached: str):
        self._cache = cache
        self._core = core
        self._usage = usage
        self._report_cached = report_cached
        self._tree = core.tree
        self._rows = cache.req_to_token_pool

    def insert_unfinished(self, req: Req, chunked: bool) -> None:
        """Insert what was computed so far, and lock it instead of what was locked before."""
        self._account(req)
        tokens = req.get_fill_ids()
        key = RadixKey(tokens, req.extra_key)
        end = self._core.whole_pages(key)
        row = self._rows.req_to_token[req.req_pool_idx, : len(tokens)]
        path = self._insertable_path(req, key, end)
        if path is None:
            self._count(req, self._place_of(req, key), None)
            # The next chunk starts behind what the request itself holds.
            req.prefix_indices = row.to(dtype=torch.int64, copy=True)
            return
        slots = row[:end].to(dtype=torch.int64, copy=True)
        held, last = self._tree.insert(
            key, end, slots, req.priority or 0, chunked, stays_private(req), path
        )
        protected = req.cache_protected_len
        # The batch that computes the request's next tokens may be running, on the former slots.
        if held > protected:
            self._core.device_frees.add(row[protected:held].to(torch.int64))
        # The slots before are those of the nodes it locked, unless they were merged away.
        moved = self._was_moved(req)
        changed_from = 0 if moved else protected
        self._core.lock(last)
        if moved:  # the former slots may be read still
            self._core.device_frees.add_lock(req.last_node)
        else:
            self._core.unlock(req.last_node)
        values = self._tree.slots_down_to(last)
        indices = torch.cat(values) if values else self._cache.no_slots
        assert len(indices) == end, f"{len(indices)} slots for {end} tokens"
        self._rows.write((req.req_pool_idx, slice(changed_from, end)), indices[changed_from:])
        req.last_node, req.cache_protected_len = last, end
        # A page that is not full stays the request's own.
        req.prefix_indices = (
            indices if end == len(row) else torch.cat((indices, row[end:].to(torch.int64)))
        )
        self._count(req, last, key)

    def insert_finished(self, req: Req, is_insert: bool, kv_len: int) -> None:
        """Insert all of a request, give back what is not inserted, and its lock."""
        self._account(req)
        tokens = (req.origin_input_ids + req.output_ids)[:kv_len]
        row = self._rows.req_to_token[req.req_pool_idx, : len(tokens)]
        protected = req.cache_protected_len
        key = RadixKey(tokens, req.extra_key)
        freed_to = end = self._core.whole_pages(key)
        if is_insert and not self._cache.disable_finished_insert:
            path = self._insertable_path(req, key, end)
            if path is None:
                last = self._place_of(req, key)
            else:
                slots = row[:end].to(dtype=torch.int64, copy=True)
                freed_to, last = self._tree.insert(
                    key,
                    end,
                    slots,
                    req.priority or 0,
                    no_promote=stays_private(req),
                    path=path,
                )
            self._count(req, last, None if path is None else key)
        self._cache.token_to_kv_pool_allocator.free_segments(
            [(row[protected:freed_to], protected), (row[end:], end)]
        )
        if req.last_node is not None:
            self._core.unlock(req.last_node)
        self._count_answer(req)

    def _insertable_path(self, req: Req, key: RadixKey, end: int) -> Path | None:
        """Walk to where a request's tokens go; None where it must keep out of the tree.

        It must also keep out when its user no longer sees the prefix that it runs on (the
        prefix was demoted): the slots are another owner's, and may not be inserted twice.
        """
        if keeps_out_of_tree(req):
            return None
        path = self._tree.walk_path(key, end)
        if self._core.visible_on_device(path)[0] < req.cache_protected_len:
            req.cache_scope = "none"
            self._core.counts["outlived_prefixes"] += 1
            return None
        return path

    def _was_moved(self, req: Req) -> bool:
        """Tell whether the nodes that a request runs on are no longer those its user matches."""
        node: Node = req.last_node
        while node.parent is not None:
            if node.state & LOGICALLY_FREED or (node.owner and node.owner != req.user_id):
                return True
            node = node.parent
        return False

    def _place_of(self, req: Req, key: RadixKey) -> Node:
        """Find where the prefix that a request runs on ends for those who ask now."""
        if req.last_node is None:
            return self._tree.root
        if self._was_moved(req):
            path = self._tree.walk_path(key, req.cache_protected_len)
            return self._core.visible_on_device(path)[1]
        last: Node = req.last_node
        return last

    def _count(self, req: Req, last: Node, inserted: RadixKey | None) -> None:
        if inserted is not None and stays_private(req):
            inserted = None
        counted = getattr(req, "counted_to", None)
        req.counted_to = self._core.count_request(req.user_id, last, inserted, counted)

    def _account(self, req: Req) -> None:
        """Count once where a request's prompt came from, and leave in the request what of it may
        be told."""
        if getattr(req, "accounted", False) or not req._cache_breakdown_computed:
            return
        req.accounted = True
        if is_own(req.user_id):
            return  # it looks at the cache for the server itself
        found = self._found(req)
        self._usage.admit(account_name(req.user_id), found)
        if self._report_cached == "visible":
            return
        told = dict.fromkeys(_SOURCES, 0)
        if self._report_cached == "own":
            for (source, scope), tokens in zip(SCOPES, found.by_scope(), strict=True):
                if scope == "private":
                    told[source] += tokens
        req.cached_tokens = sum(told.values())
        req.cached_tokens_device = told["device"]
        req.cached_tokens_host = told["host"]
        req.cached_tokens_storage = told["storage"]

    def _found(self, req: Req) -> Found:
        """Tell where a request's prompt came from."""
        found = req.cached_tokens_device + req.cached_tokens_host + req.cached_tokens_storage
        last: Node | None = req.last_node
        return Found(
            device=req.cached_tokens_device,
            host=req.cached_tokens_host,
            storage=req.cached_tokens_storage,
            computed=max(0, len(req.origin_input_ids) - found),
            public=0 if last is None else min(found, self._tree.public_depth(last)),
        )

    def _count_answer(self, req: Req) -> None:
        """Count an answer's tokens once, however often the request is put back and resumed."""
        fresh = len(req.output_ids) - getattr(req, "counted_outputs", 0)
        if fresh > 0 and not is_own(req.user_id):
            req.counted_outputs = len(req.output_ids)
            self._usage.answered(account_name(req.user_id), fresh)
