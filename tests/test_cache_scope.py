"""The trees with real pools: owners kept apart, and requests that leave nothing behind."""

from __future__ import annotations

from array import array
from types import SimpleNamespace

import pytest
import torch

from sglang.srt.managers.schedule_batch import Req
from sglang.srt.managers.schedule_policy import SchedulePolicy
from sglang.srt.mem_cache.allocator import (
    BaseTokenToKVPoolAllocator,
    PagedTokenToKVPoolAllocator,
    TokenToKVPoolAllocator,
)
from sglang.srt.mem_cache.base_prefix_cache import EvictParams, MatchPrefixParams
from sglang.srt.mem_cache.cache_init_params import CacheInitParams
from sglang.srt.mem_cache.memory_pool import MHATokenToKVPool, ReqToTokenPool
from sglang.srt.mem_cache.radix_cache import RadixKey
from sglang.srt.sampling.sampling_params import SamplingParams
from sglang.srt.server_args import ServerArgs, set_global_server_args_for_scheduler
from sglang.srt.tenancy.cache.adapters.hiradix.radix import TenantRadixCache
from sglang.srt.tenancy.flags import TenantOptions
from sglang.srt.tenancy.namespace import Namespace, adopt

SIZE = 256
PROMPT = array("q", range(100, 164))


class Engine:
    """One cache on real pools, driven as the scheduler drives it."""

    def __init__(self, page_size: int):
        kv = MHATokenToKVPool(
            size=SIZE,
            page_size=page_size,
            dtype=torch.float32,
            head_num=1,
            head_dim=8,
            layer_num=1,
            device="cpu",
            enable_memory_saver=False,
        )
        self.allocator: BaseTokenToKVPoolAllocator = (
            TokenToKVPoolAllocator(SIZE, torch.float32, "cpu", kv, need_sort=False)
            if page_size == 1
            else PagedTokenToKVPoolAllocator(
                SIZE, page_size, torch.float32, "cpu", kv, need_sort=False
            )
        )
        self.rows = ReqToTokenPool(
            size=8, max_context_len=512, device="cpu", enable_memory_saver=False
        )
        self.cache = TenantRadixCache(
            CacheInitParams(
                disable=False,
                req_to_token_pool=self.rows,
                token_to_kv_pool_allocator=self.allocator,
                page_size=page_size,
            ),
            TenantOptions(enable_tenant_cache=True, tenant_mode="isolated"),
            {},
        )

    def request(self, user: str | None, prompt: array[int], scope: str | None = None) -> Req:
        req = Req("r", "", prompt, SamplingParams(), extra_key=None)
        adopt(
            req,
            SimpleNamespace(user_id=user, cache_scope=scope),
            TenantOptions(enable_tenant_cache=True, tenant_mode="isolated"),
        )
        return req

    def serve(
        self, user: str | None, prompt: array[int], scope: str | None = None, chunks: int = 1
    ) -> int:
        """Prefill in chunks, finish. Returns the tokens that came from the cache."""
        req = self.request(user, prompt, scope)
        key = RadixKey(prompt[:-1], req.extra_key)
        match = self.cache.match_prefix(MatchPrefixParams(key=key, req=req))
        req.prefix_indices, req.last_node = match.device_indices, match.last_device_node
        hit = req.cache_protected_len = len(match.device_indices)
        self.cache.inc_lock_ref(req.last_node)
        req.req_pool_idx = self.rows.free_slots.pop()
        req.full_untruncated_fill_ids = prompt
        self.rows.write((req.req_pool_idx, slice(0, hit)), match.device_indices)
        page = self.cache.page_size
        wanted = -(-(len(prompt) - hit) // page) * page
        slots = self.allocator.alloc(wanted)
        assert slots is not None
        self.rows.write((req.req_pool_idx, slice(hit, len(prompt))), slots[: len(prompt) - hit])
        for chunk in range(1, chunks):
            start = len(req.prefix_indices)
            end = hit + (len(prompt) - hit) * chunk // chunks
            req.set_extend_range(start, end)
            self.cache.cache_unfinished_req(req, chunked=True)
            # PrefillAdder goes on behind this: it must be all that was computed.
            assert len(req.prefix_indices) == end
        req.set_extend_range(len(req.prefix_indices), len(prompt))
        self.cache.cache_finished_req(req, kv_len_to_handle=len(prompt))
        self.rows.free_slots.append(req.req_pool_idx)
        return hit

    def free_slots(self) -> int:
        return int(self.allocator.available_size())


@pytest.fixture(params=[1, 4, 16])
def engine(request: pytest.FixtureRequest) -> Engine:
    set_global_server_args_for_scheduler(ServerArgs(model_path="dummy"))
    return Engine(request.param)


@pytest.mark.parametrize("chunks", [1, 4])
def test_users_find_their_own_prefix_and_no_other(engine: Engine, chunks: int) -> None:
    page = engine.cache.page_size
    reusable = (len(PROMPT) - 1) // page * page  # the last token is always computed
    assert engine.serve("alice", PROMPT, chunks=chunks) == 0
    assert engine.serve("bob", PROMPT, chunks=chunks) == 0
    assert engine.serve("alice", PROMPT) == engine.serve("bob", PROMPT) == reusable


@pytest.mark.parametrize("chunks", [1, 2, 5])
def test_scope_none_leaves_nothing_and_returns_every_slot(engine: Engine, chunks: int) -> None:
    assert engine.serve("alice", PROMPT, "none", chunks) == 0
    assert engine.free_slots() == SIZE
    assert engine.cache.total_size() == 0
    assert engine.serve("alice", PROMPT) == 0


@pytest.mark.parametrize("chunks", [1, 3])
def test_scope_none_still_reads_what_the_user_has(engine: Engine, chunks: int) -> None:
    engine.serve("alice", PROMPT)
    before = engine.free_slots()
    longer = PROMPT + array("q", range(200, 230))
    hit = engine.serve("alice", longer, "none", chunks)
    assert hit == len(PROMPT) // engine.cache.page_size * engine.cache.page_size
    assert engine.free_slots() == before
    assert engine.cache.protected_size() == 0


def test_eviction_gives_back_every_slot(engine: Engine) -> None:
    for user in ("alice", "bob"):
        engine.serve(user, PROMPT)
    engine.cache.evict(EvictParams(num_tokens=SIZE))
    assert engine.free_slots() == SIZE


def test_a_request_that_lost_its_user_is_isolated_not_shared(engine: Engine) -> None:
    for _ in range(2):
        assert engine.serve(None, PROMPT) == 0
    assert engine.free_slots() == SIZE


def test_the_waiting_queue_does_not_mix_users(engine: Engine) -> None:
    """Holding a request back because a stranger waits with the same prompt would tell on them."""
    policy = SchedulePolicy("lpm", engine.cache, False, False, False)

    def held_back(*users: str) -> set[str]:
        queue = [engine.request(user, PROMPT) for user in users]
        for number, req in enumerate(queue):
            req.rid = f"{number}"
        return set(policy._compute_prefix_matches(queue, policy.policy))

    assert held_back("alice", "alice") == {"1"}
    assert held_back("alice", "bob") == set()


def test_namespaces_never_collide_and_never_show_their_owner() -> None:
    assert Namespace("a", "bc") != Namespace("ab", "c") != Namespace("a", None)
    assert "alice" not in f"{Namespace('alice', None)} {Namespace('alice', None)!r}"


def test_a_request_that_was_never_adopted_leaves_nothing(engine: Engine) -> None:
    """Upstream ends a request whose session is gone before it has a user."""
    engine.request = lambda user, prompt, scope=None: Req("r", "", prompt, SamplingParams())  # type: ignore[method-assign]
    assert engine.serve("alice", PROMPT) == 0
    assert engine.free_slots() == SIZE
    assert engine.cache.total_size() == 0
