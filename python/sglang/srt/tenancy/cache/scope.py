"""``cache_scope: "none"``: a request that reads the tree but leaves nothing in it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from sglang.srt.mem_cache.radix_cache import RadixCache
from sglang.srt.tenancy.ownership import keeps_out_of_tree

if TYPE_CHECKING:
    from sglang.srt.managers.schedule_batch import Req


class ScopedInsert(RadixCache):
    """Upstream's insertion, unless the request keeps out. Goes before any radix cache.

    Such a request holds the KV it computes until it ends, as upstream's ChunkCache does;
    what it matched stays locked by it as ever.
    """

    def cache_unfinished_req(self, req: Req, chunked: bool = False) -> None:
        if self.disable or not keeps_out_of_tree(req):
            super().cache_unfinished_req(req, chunked=chunked)
            return
        computed = len(req.get_fill_ids())
        # The next chunk starts behind what the request itself holds.
        req.prefix_indices = self.req_to_token_pool.req_to_token[req.req_pool_idx, :computed].to(
            dtype=torch.int64, copy=True
        )

    def cache_finished_req(self, req: Req, is_insert: bool = True, **kwargs: Any) -> None:
        insert = is_insert and not keeps_out_of_tree(req)
        super().cache_finished_req(req, is_insert=insert, **kwargs)
