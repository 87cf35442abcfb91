"""The memory of the modelled device: real pools, a token of which is a few bytes."""

from __future__ import annotations

import torch

from sglang.srt.mem_cache.allocator import TokenToKVPoolAllocator
from sglang.srt.mem_cache.cache_init_params import CacheInitParams
from sglang.srt.mem_cache.memory_pool import MHATokenToKVPool, ReqToTokenPool


class Pools:
    """``slots``: one for each token's keys and values; ``rows``: one for each request.

    ``params``: what a cache on them is made with.
    """

    def __init__(self, tokens: int, requests: int):
        kv = MHATokenToKVPool(
            size=tokens,
            page_size=1,
            dtype=torch.float32,
            head_num=1,
            head_dim=1,
            layer_num=1,
            device="cpu",
            enable_memory_saver=False,
        )
        self.slots = TokenToKVPoolAllocator(tokens, torch.float32, "cpu", kv, need_sort=False)
        self.rows = ReqToTokenPool(requests, tokens, "cpu", enable_memory_saver=False)
        self.params = CacheInitParams(
            disable=False,
            req_to_token_pool=self.rows,
            token_to_kv_pool_allocator=self.slots,
            page_size=1,
        )
