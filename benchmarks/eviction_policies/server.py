"""A real hierarchical cache that serves requests one by one, without a model."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any, NamedTuple

import torch
from support.trees import Tree

from sglang.srt.managers.schedule_batch import Req
from sglang.srt.mem_cache.base_prefix_cache import InitLoadBackParams
from sglang.srt.mem_cache.common import evict_from_tree_cache
from sglang.srt.sampling.sampling_params import SamplingParams
from sglang.srt.tenancy.namespace import adopt

DEVICE, HOST = 8_192, 16_384  # tokens
EPOCH = 1_024  # admitted requests


class Found(NamedTuple):
    """Tokens of a prompt that a request found on each tier."""

    device: int
    host: int


class Server:
    """``upstream``: upstream's own cache, in which all users share all and the oldest leaf goes.
    ``order``: makes the order of each tier instead of the tree's own, from the same arguments."""

    def __init__(
        self,
        *,
        upstream: bool = False,
        weights: Mapping[str, float] | None = None,
        order: Callable[..., Any] | None = None,
        device: int = DEVICE,
        host: int = HOST,
        epoch: int = EPOCH,
    ):
        torch.set_num_threads(1)  # nothing here is large
        options: dict[str, Any] = {} if upstream else {"tenant_epoch_requests": epoch}
        self.tree = Tree(
            ours=not upstream,
            device_tokens=device,
            host_ratio=host / device,
            weights=weights,
            context=device,
            **options,
        )
        self.cache: Any = self.tree.cache
        if order is not None:
            self.cache.new_order = order
            self.cache.reset()

    def ask(self, user: str, prompt: Sequence[int]) -> Found:
        """Match, load back, make room, compute, insert, finish."""
        cache, rows = self.cache, self.tree.rows
        req = Req("benchmark", "", array("q", prompt), SamplingParams(), extra_key=None)
        if self.tree.args.enable_tenant_cache:
            received: Any = SimpleNamespace(user_id=user, cache_scope=None)
            adopt(req, received, self.tree.args)
        req.init_next_round_input(cache)
        matched, device = req.last_node, len(req.prefix_indices)
        cache.inc_lock_ref(matched)
        self._load_back(req)
        cache.inc_lock_ref(req.last_node)
        cache.dec_lock_ref(matched)
        found, end = len(req.prefix_indices), len(prompt)
        evict_from_tree_cache(cache, end - found)
        slots = self.tree.allocator.alloc(end - found)
        assert slots is not None, f"no room for {end - found} tokens"
        rows.alloc([req])
        rows.write((req.req_pool_idx, slice(0, found)), req.prefix_indices)
        rows.write((req.req_pool_idx, slice(found, end)), slots)
        req.set_extend_range(found, end)
        cache.cache_unfinished_req(req)
        cache.cache_finished_req(req, kv_len_to_handle=end)
        rows.free(req)
        self.tree.settle()
        return Found(device, found - device)

    def _load_back(self, req: Req) -> None:
        if not req.needs_host_load_back():
            return
        loaded, req.last_node = self.cache.init_load_back(
            InitLoadBackParams(
                best_match_node=req.best_match_node,
                host_hit_length=req.host_hit_length,
                req=req,
            )
        )
        self.cache.ready_to_load_host_cache()
        req.prefix_indices = torch.cat([req.prefix_indices, loaded])
        req.cache_protected_len = len(req.prefix_indices)
