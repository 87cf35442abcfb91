"""KV events tell routers of public blocks, and of private ones only under secret names."""

from __future__ import annotations

from array import array
from types import SimpleNamespace
from typing import Any

import torch

from sglang.srt.disaggregation.kv_events import BlockRemoved, BlockStored
from sglang.srt.managers.schedule_batch import Req
from sglang.srt.mem_cache.allocator import TokenToKVPoolAllocator
from sglang.srt.mem_cache.base_prefix_cache import EvictParams, InsertParams
from sglang.srt.mem_cache.cache_init_params import CacheInitParams
from sglang.srt.mem_cache.memory_pool import MHATokenToKVPool, ReqToTokenPool
from sglang.srt.mem_cache.radix_cache import RadixCache, RadixKey
from sglang.srt.sampling.sampling_params import SamplingParams
from sglang.srt.server_args import ServerArgs, set_global_server_args_for_scheduler
from sglang.srt.tenancy.cache.adapters.hiradix.radix import TenantRadixCache
from sglang.srt.tenancy.flags import TenantOptions
from sglang.srt.tenancy.namespace import adopt

PROMPT = array("q", range(40))


def params() -> CacheInitParams:
    set_global_server_args_for_scheduler(ServerArgs(model_path="dummy"))
    kv = MHATokenToKVPool(
        size=512,
        page_size=1,
        dtype=torch.float32,
        head_num=1,
        head_dim=1,
        layer_num=1,
        device="cpu",
        enable_memory_saver=False,
    )
    return CacheInitParams(
        disable=False,
        req_to_token_pool=ReqToTokenPool(
            size=4, max_context_len=128, device="cpu", enable_memory_saver=False
        ),
        token_to_kv_pool_allocator=TokenToKVPoolAllocator(
            512, torch.float32, "cpu", kv, need_sort=False
        ),
        page_size=1,
        enable_kv_cache_events=True,
    )


class Talk:
    """A device-only cache that publishes events, and users who send prompts."""

    def __init__(self, **options: Any) -> None:
        self.options = TenantOptions(
            enable_tenant_cache=True, tenant_detector="off-trust-all", **options
        )
        self.cache = TenantRadixCache(params(), self.options, {})
        self.cache.take_events()

    def send(self, user: str, prompt: array[int]) -> list[Any]:
        """The events of one request that computes all of its prompt."""
        req = Req("r", "", prompt, SamplingParams())
        adopt(req, SimpleNamespace(user_id=user, cache_scope=None), self.options)
        req.last_node, req.cache_protected_len, req.req_pool_idx = self.cache.root_node, 0, 1
        slots = self.cache.token_to_kv_pool_allocator.alloc(len(prompt))
        self.cache.req_to_token_pool.write((1, slice(0, len(prompt))), slots)
        self.cache.cache_finished_req(req, kv_len_to_handle=len(prompt))
        self.cache.sanity_check()
        return list(self.cache.take_events())


def stored(events: list[Any]) -> list[int]:
    return [h for event in events if isinstance(event, BlockStored) for h in event.block_hashes]


def removed(events: list[Any]) -> list[int]:
    return [h for event in events if isinstance(event, BlockRemoved) for h in event.block_hashes]


def upstream_names(prompt: array[int]) -> list[int]:
    cache = RadixCache(params())
    cache.take_events()
    cache.insert(InsertParams(key=RadixKey(prompt), value=torch.arange(len(prompt))))
    return stored(cache.take_events())


def test_private_blocks_are_not_published() -> None:
    talk = Talk()
    assert talk.send("alice", PROMPT) == talk.send("bob", PROMPT) == []
    talk.cache.evict(EvictParams(num_tokens=80))
    assert talk.cache.take_events() == []


def test_what_becomes_public_is_published_under_upstreams_names() -> None:
    talk = Talk()
    for number, user in enumerate(("alice", "bob")):
        talk.send(user, PROMPT + array("q", [100 + number] * 3))
    events = talk.send("carol", PROMPT + array("q", [200] * 3))
    assert stored(events) == upstream_names(PROMPT)
    assert not removed(events)
    talk.cache.evict(EvictParams(num_tokens=200))
    assert removed(talk.cache.take_events()) == stored(events)


def test_private_names_are_secret_and_differ_by_user() -> None:
    talk = Talk(tenant_publish_private_events=True)
    alice, bob = (stored(talk.send(user, PROMPT)) for user in ("alice", "bob"))
    assert len(alice) == len(bob) == len(PROMPT)
    assert not set(alice) & set(bob)
    assert not set(upstream_names(PROMPT)) & (set(alice) | set(bob))


def test_all_that_was_announced_is_withdrawn_in_the_end() -> None:
    talk = Talk(tenant_publish_private_events=True, tenant_rdr_min_hits=8, tenant_rdr_threshold=0.5)
    there: set[int] = set()
    for step in range(40):
        user = "abcd"[step % 4] if step < 12 else "d"
        tail = array("q", [300 + step % 5] * 4)
        events = talk.send(user, PROMPT + tail)
        there = (there | set(stored(events))) - set(removed(events))
    assert talk.cache.core.counts["promotions"]
    assert talk.cache.core.counts["demotions"]
    talk.cache.evict(EvictParams(num_tokens=512))
    there -= set(removed(talk.cache.take_events()))
    assert not there
