"""Take one request through a hierarchical cache, as the scheduler does, without a model."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, NamedTuple

import torch
from support.trees import Tree

from sglang.srt.managers.schedule_batch import Req
from sglang.srt.mem_cache.base_prefix_cache import InitLoadBackParams
from sglang.srt.mem_cache.common import evict_from_tree_cache
from sglang.srt.sampling.sampling_params import SamplingParams
from sglang.srt.tenancy.namespace import adopt


class Found(NamedTuple):
    """Tokens of a prompt that a request found on each tier."""

    device: int
    host: int


def request(tree: Tree, user: str, prompt: Sequence[int]) -> Req:
    req = Req("benchmark", "", array("q", prompt), SamplingParams(), extra_key=None)
    received: Any = SimpleNamespace(user_id=user, cache_scope=None)
    adopt(req, received, tree.args)
    return req


def serve(tree: Tree, req: Req, answer: Sequence[int] = ()) -> Found:
    """Match, load back, make room, compute, insert, answer, finish.

    Raises RuntimeError where there is no room for the prompt and its answer.
    """
    cache, rows = tree.cache, tree.rows
    req.init_next_round_input(cache)
    device = len(req.prefix_indices)
    cache.inc_lock_ref(req.last_node)
    _load_back(tree, req)
    hit, prompt = len(req.prefix_indices), len(req.origin_input_ids)
    end = prompt + max(0, len(answer) - 1)  # the last token is never computed with
    evict_from_tree_cache(cache, end - hit)
    slots = tree.allocator.alloc(end - hit)
    if slots is None:
        raise RuntimeError(f"no room for {end - hit} tokens in a pool of {tree.allocator.size}")
    rows.alloc([req])
    rows.write((req.req_pool_idx, slice(0, hit)), req.prefix_indices)
    rows.write((req.req_pool_idx, slice(hit, end)), slots)
    req.set_extend_range(hit, prompt)
    cache.cache_unfinished_req(req)
    req.output_ids.extend(answer)
    cache.cache_finished_req(req, kv_len_to_handle=end)
    rows.free(req)
    tree.settle()
    return Found(device, hit - device)


def _load_back(tree: Tree, req: Req) -> None:
    """The request's lock goes from the node that was found to the one that was loaded."""
    if not req.needs_host_load_back():
        return
    matched = req.last_node
    loaded, req.last_node = tree.cache.init_load_back(
        InitLoadBackParams(
            best_match_node=req.best_match_node, host_hit_length=req.host_hit_length, req=req
        )
    )
    tree.cache.ready_to_load_host_cache()
    req.prefix_indices = torch.cat([req.prefix_indices, loaded])
    req.cache_protected_len = len(req.prefix_indices)
    tree.cache.inc_lock_ref(req.last_node)
    tree.cache.dec_lock_ref(matched)
