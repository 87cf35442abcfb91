"""What a request leaves in the tree, while it runs and when it ends."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from sglang.srt.mem_cache.radix_cache import RadixKey
from sglang.srt.tenancy.cache.core.node import LOGICALLY_FREED, Node
from sglang.srt.tenancy.cache.sharing import Sharing
from sglang.srt.tenancy.cache.tree import common_prefix
from sglang.srt.tenancy.namespace import keeps_out_of_tree, stays_private
from sglang.srt.tenancy.user_id import account_name

if TYPE_CHECKING:
    from sglang.srt.managers.schedule_batch import Req


class Requests(Sharing):
    """Serve the scheduler's two calls for a request, in a tree that may change under a request.

    A request owns the slots from ``cache_protected_len`` on; those before belong to nodes that
    it has locked through ``last_node``.
    """

    def cache_unfinished_req(self, req: Req, chunked: bool = False) -> None:
        """Insert what was computed so far, and lock it instead of what was locked before."""
        if self.disable:
            return
        tokens = req.get_fill_ids()
        key = RadixKey(tokens, req.extra_key)
        end = self._insertable(req, key)
        row = self.req_to_token_pool.req_to_token[req.req_pool_idx, : len(tokens)]
        if end is None:
            self._settle(req, self._stands_at(req, key), None)
            # The next chunk starts behind what the request itself holds.
            req.prefix_indices = row.to(dtype=torch.int64, copy=True)
            return
        slots = row[:end].to(dtype=torch.int64, copy=True)
        held, last = self._place(
            key, end, slots, req.priority or 0, chunked, no_promote=stays_private(req)
        )
        protected = req.cache_protected_len
        # The batch that computes the request's next tokens may be running, on the former slots.
        self.device_frees.add(row[protected:held])
        # The slots before are those of the nodes it locked, unless they were merged away.
        moved = self._was_moved(req)
        changed_from = 0 if moved else protected
        self.inc_lock_ref(last)
        if moved:  # the former slots may be read still
            self.device_frees.add_lock(req.last_node)
        else:
            self.dec_lock_ref(req.last_node)
        indices = self._slots_down_to(last)
        assert len(indices) == end, f"{len(indices)} slots for {end} tokens"
        self.req_to_token_pool.write(
            (req.req_pool_idx, slice(changed_from, end)), indices[changed_from:]
        )
        req.last_node, req.cache_protected_len = last, end
        # A page that is not full stays the request's own.
        req.prefix_indices = (
            indices if end == len(row) else torch.cat((indices, row[end:].to(torch.int64)))
        )
        self._settle(req, last, key)

    def cache_finished_req(
        self, req: Req, is_insert: bool = True, *, kv_len_to_handle: int, **_: Any
    ) -> None:
        """Insert all of a request, give back what is not inserted, and its lock."""
        tokens = (req.origin_input_ids + req.output_ids)[:kv_len_to_handle]
        row = self.req_to_token_pool.req_to_token[req.req_pool_idx, : len(tokens)]
        protected = req.cache_protected_len
        if self.disable:
            self._free_own(row[protected:], protected)
            return
        key = RadixKey(tokens, req.extra_key)
        aligned = len(tokens) // self.page_size * self.page_size
        freed_to = aligned
        if is_insert and not self.disable_finished_insert:
            end = self._insertable(req, key)
            if end is None:
                last = self._stands_at(req, key)
            else:
                slots = row[:end].to(dtype=torch.int64, copy=True)
                freed_to, last = self._place(
                    key, end, slots, req.priority or 0, no_promote=stays_private(req)
                )
            self._settle(req, last, None if end is None else key)
        self.token_to_kv_pool_allocator.free_segments(
            [(row[protected:freed_to], protected), (row[aligned:], aligned)]
        )
        if req.last_node is not None:
            self.dec_lock_ref(req.last_node)

    def _free_own(self, slots: torch.Tensor, start: int) -> None:
        if len(slots):
            self.token_to_kv_pool_allocator.free_segment(slots, start_pos=start)

    def _insertable(self, req: Req, key: RadixKey) -> int | None:
        """How many tokens a request may insert; None where it must keep out of the tree.

        It must also keep out when its user no longer sees the prefix that it runs on (the
        prefix was demoted): the slots are another owner's, and may not be inserted twice.
        """
        end = len(key) // self.page_size * self.page_size
        if keeps_out_of_tree(req):
            return None
        if self._visible(key, end)[0] < req.cache_protected_len:
            req.cache_scope = "none"
            self.count("outlived_prefixes")
            return None
        return end

    def _visible(self, key: RadixKey, end: int) -> tuple[int, Node]:
        """Tokens on the device that the key's owner may match, and the last node that is wholly
        among them. Changes nothing."""
        page, tokens = self.page_size, key.token_ids
        node: Node = self.root_node
        at = 0
        while at < end:
            child = self.child_of(node, key, at)
            if child is None or child.value is None:
                break
            stored = child.key.token_ids
            shared = common_prefix(stored, tokens, at, end) // page * page
            at += shared
            if shared < len(stored):
                break
            node = child
        return at, node

    def _was_moved(self, req: Req) -> bool:
        """Whether the nodes that a request runs on are no longer those that its user matches."""
        node: Node = req.last_node
        while node.parent is not None:
            if node.state & LOGICALLY_FREED or (node.owner and node.owner != req.user_id):
                return True
            node = node.parent
        return False

    def _stands_at(self, req: Req, key: RadixKey) -> Node:
        """Where the prefix that a request runs on ends for those who ask now."""
        if req.last_node is None:
            return self.root_node
        if self._was_moved(req):
            return self._visible(key, req.cache_protected_len)[1]
        return req.last_node

    def _slots_down_to(self, node: Node) -> torch.Tensor:
        values = []
        while node.parent is not None:
            values.append(node.value)
            node = node.parent
        values.reverse()
        empty: torch.Tensor = self._empty_match_result.device_indices
        return torch.cat(values) if values else empty

    def _settle(self, req: Req, last: Node, inserted: RadixKey | None) -> None:
        """Count a request, and let what it inserted (if it did) become public, or private."""
        # The scheduler comes here many times for a request: each node hears of it once.
        counted = getattr(req, "counted_to", None)
        first_time = counted is None
        if first_time:
            self._admit(req.user_id or "")
        req.counted_to = self._visit(last, account_name(req.user_id), counted or 0)
        if self.options.tenant_mode != "selective":
            return
        if inserted is not None and not stays_private(req):
            self._promote(inserted, last)
        if first_time:
            self._demote_probed(last)
