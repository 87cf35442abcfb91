"""Requests, as the scheduler takes them through a cache."""

from __future__ import annotations

from array import array
from types import SimpleNamespace
from typing import Any

import torch

from sglang.srt.managers.schedule_batch import Req
from sglang.srt.mem_cache.base_prefix_cache import InitLoadBackParams
from sglang.srt.mem_cache.common import evict_from_tree_cache
from sglang.srt.sampling.sampling_params import SamplingParams
from sglang.srt.tenancy.namespace import adopt
from tree_cost.subjects import Subject
from tree_cost.traces import Turn


def request(subject: Subject, turn: Turn) -> Req:
    received: Any = SimpleNamespace(user_id=f"u{turn.user}", cache_scope=None)
    req = Req("benchmark", "", array("q", turn.tokens), SamplingParams(), extra_key=None)
    adopt(req, received, subject.tree.args)
    return req


def serve(subject: Subject, req: Req, answer: list[int]) -> None:
    """Match, make room, prefill, answer, finish."""
    cache, rows = subject.cache, subject.tree.rows
    req.init_next_round_input(cache)
    _load_back(subject, req)
    cache.inc_lock_ref(req.last_node)
    hit, prompt = len(req.prefix_indices), len(req.origin_input_ids)
    end = prompt + len(answer) - 1  # the last token is never computed with
    evict_from_tree_cache(cache, end - hit)
    slots = subject.tree.allocator.alloc(end - hit)
    if slots is None:
        raise RuntimeError(f"{subject.kind.name}: no room for {end - hit} tokens")
    rows.alloc([req])
    rows.write((req.req_pool_idx, slice(0, hit)), req.prefix_indices)
    rows.write((req.req_pool_idx, slice(hit, end)), slots)
    req.set_extend_range(hit, prompt)
    cache.cache_unfinished_req(req)
    req.output_ids.extend(answer)
    cache.cache_finished_req(req, kv_len_to_handle=end)
    rows.free(req)
    subject.tree.settle()
    subject.cached_tokens += hit


def _load_back(subject: Subject, req: Req) -> None:
    if not req.needs_host_load_back():
        return
    loaded, req.last_node = subject.cache.init_load_back(
        InitLoadBackParams(
            best_match_node=req.best_match_node, host_hit_length=req.host_hit_length, req=req
        )
    )
    subject.cache.ready_to_load_host_cache()
    req.prefix_indices = torch.cat([req.prefix_indices, loaded])
    req.cache_protected_len = len(req.prefix_indices)
