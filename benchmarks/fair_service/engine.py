"""One scheduler on a modelled device: real policies, real requests, real cache, no clock.

The scheduler's round is played with upstream's SchedulePolicy or ours, upstream's PrefillAdder
and our TenantRadixCache (or upstream's RadixCache) on real pools. Only the model is not real: a
step takes the seconds that ``Costs`` says, so every run of a trace gives the same result on
every machine.
"""

from __future__ import annotations

from array import array
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Set
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import torch
from caches.pools import Pools

from fair_service.device import Device
from fair_service.record import Ask, Served
from sglang.srt.managers.schedule_batch import FINISH_ABORT, FINISH_LENGTH, Req
from sglang.srt.managers.schedule_policy import AddReqResult, PrefillAdder
from sglang.srt.mem_cache.common import evict_from_tree_cache
from sglang.srt.mem_cache.radix_cache import RadixCache
from sglang.srt.sampling.sampling_params import SamplingParams
from sglang.srt.server_args import ServerArgs, set_global_server_args_for_scheduler
from sglang.srt.tenancy.cache.adapters.hiradix.radix import TenantRadixCache
from sglang.srt.tenancy.namespace import adopt
from sglang.srt.tenancy.schedule.factory import policy_class, requests_to_try
from sglang.srt.tenancy.schedule.preemption import next_prefill
from sglang.srt.tenancy.schedule.service_tracker import Prices
from sglang.srt.tenancy.user_id import account_name


@dataclass
class Running:
    """As much of upstream's batch as PrefillAdder looks at."""

    reqs: list[Req] = field(default_factory=list)
    batch_is_full: bool = False

    def batch_size(self) -> int:
        return len(self.reqs)


# Called after every step with the users' service so far and those who wait.
Watch = Callable[[Mapping[str, float], Set[str]], None]

# Tokens of answers: in no prompt.
ANSWER = 1 << 41


class Engine:
    """One scheduler, its cache, and a device that takes ``device.costs``.

    ``served``: one entry for each request that came. ``service``: user -> tokens by price;
    a prompt counts when it is admitted, an answer's token when it is produced.
    ``upstream``: on upstream's own cache, where all users share all and the oldest gives way.
    ``options``: of ``ServerArgs``; the mode is isolated unless they say otherwise.
    """

    kind_of_cache: type[TenantRadixCache] = TenantRadixCache

    def __init__(
        self,
        policy: str,
        device: Device | None = None,
        *,
        weights: Mapping[str, float] | None = None,
        watch: Watch | None = None,
        upstream: bool = False,
        **options: Any,
    ):
        self.device = device or Device()
        options = {"tenant_mode": "shared" if upstream else "isolated"} | options
        args = ServerArgs(
            model_path="dummy", enable_tenant_cache=True, disable_overlap_schedule=True, **options
        )
        set_global_server_args_for_scheduler(args)
        self.options, self.prices, self.watch = args, Prices.of(args), watch
        pools = Pools(self.device.memory, self.device.running + 1)
        self.slots, self.rows = pools.slots, pools.rows
        self.cache: RadixCache = (
            RadixCache(pools.params)
            if upstream
            else self.kind_of_cache(pools.params, args, weights or {})
        )
        build: Any = policy_class(args, policy)
        if hasattr(build, "keywords"):
            build.keywords["weights"] = weights or {}
        self.policy = build(policy, self.cache, False, False, False)
        self.now = 0.0
        self.waiting_queue: list[Req] = []
        self.running_batch = Running()
        self.chunked_prefill_size, self.page_size = self.device.chunk, 1
        self.truncation_align_size: int | None = None
        self.chunked_req: Req | None = None
        self.served: dict[Req, Served] = {}
        self.service: dict[str, float] = defaultdict(float)
        self.idle_rounds = 0  # nothing ran though somebody waited
        self.retractions = 0
        self.computed = 0
        self._queued: Counter[str] = Counter()  # user -> waiting requests

    # The scheduler

    def play(self, trace: Iterable[Ask]) -> list[Served]:
        """Serve a whole trace, sorted by time."""
        asks = sorted(trace, key=lambda ask: ask.at)
        coming = 0
        while coming < len(asks) or self.busy:
            if not self.busy:
                self.now = max(self.now, asks[coming].at)
            while coming < len(asks) and asks[coming].at <= self.now:
                self.receive(asks[coming])
                coming += 1
            self.step()
        return list(self.served.values())

    @property
    def busy(self) -> bool:
        return bool(self.waiting_queue or self.running_batch.reqs or self.chunked_req)

    def receive(self, ask: Ask) -> Req:
        req = Req(
            str(len(self.served)),
            "",
            array("q", ask.prompt),
            SamplingParams(max_new_tokens=ask.answer),
        )
        adopt(req, SimpleNamespace(user_id=ask.user, cache_scope=None), self.options)
        self._wait(req)
        self.served[req] = Served(ask)
        return req

    def step(self) -> None:
        """One step of the device: a prefill batch if there is one, else a token for each."""
        batch = self._admit()
        if batch:
            self._prefill(batch)
        elif self.running_batch.reqs:
            self._decode()
        else:
            self.idle_rounds += bool(self.waiting_queue)
            self.now += self.device.costs.step
        if self.watch:
            self.watch(self.service, self._queued.keys())

    def _admit(self) -> list[Req]:
        def release(req: Req) -> None:
            self._release(req, insert=False)
            self._queued[account_name(req.user_id)] += 1

        running = self.running_batch
        batch, _ = next_prefill(Engine._plan, self, running_batch=running, release=release)
        return list(batch)

    def _plan(self, running_batch: Running) -> tuple[list[Req], Running]:
        """The scheduler's _get_new_batch_prefill_raw, as far as it concerns one device."""
        free = self.device.running - len(running_batch.reqs)
        begun = self.chunked_req
        if begun is None and (running_batch.batch_is_full or not self.waiting_queue or free <= 0):
            return [], running_batch
        self.policy.calc_priority(self.waiting_queue, running_batch)
        adder = self._adder()
        if begun is not None:
            begun.init_next_round_input()
            self.chunked_req = adder.add_chunked_req(begun)
        for req in requests_to_try(self.policy, self.waiting_queue, adder):
            if len(adder.can_run_list) >= free or running_batch.batch_is_full:
                running_batch.batch_is_full = True
                break
            req.init_next_round_input(self.cache)
            result = adder.add_one_req(
                req, self.chunked_req is not None, self.truncation_align_size
            )
            if result != AddReqResult.CONTINUE:
                running_batch.batch_is_full = result == AddReqResult.NO_TOKEN
                break
        self._leave({req for req in adder.can_run_list if req is not begun})
        if adder.new_chunked_req is not None:
            self.chunked_req = adder.new_chunked_req
        return list(adder.can_run_list), running_batch

    def _adder(self) -> PrefillAdder:
        device = self.device
        return PrefillAdder(
            1,
            self.cache,
            self.slots,
            self.running_batch,
            device.reserve,
            16_384,
            self.chunked_prefill_size,
        )

    def _wait(self, req: Req) -> None:
        self.waiting_queue.append(req)
        self._queued[account_name(req.user_id)] += 1

    def _leave(self, reqs: set[Req]) -> None:
        """All of them wait."""
        self.waiting_queue = [req for req in self.waiting_queue if req not in reqs]
        for user in (account_name(req.user_id) for req in reqs):
            self._queued[user] -= 1
            if not self._queued[user]:
                del self._queued[user]

    # The device

    def _prefill(self, batch: list[Req]) -> None:
        tokens = 0
        for req in batch:
            tokens += self._extend(req)
        self.computed += tokens
        self.now += self.device.costs.of(tokens, 0)
        for req in batch:
            self.cache.cache_unfinished_req(req, chunked=req is self.chunked_req)
            if req is not self.chunked_req:
                self._produce(req)
                if not req.finished():
                    self.running_batch.reqs.append(req)
        self._processed()

    def _extend(self, req: Req) -> int:
        """Slots for the part of a prompt that this step computes. Returns its tokens."""
        start, end = req.extend_range.start, req.extend_range.end
        served = self.served[req]
        if served.admitted < 0:
            served.admitted, served.cached = self.now, start
            # As the batch says it, so that the cache counts for operators.
            req.cached_tokens_device, req._cache_breakdown_computed = start, True
            computed = len(req.origin_input_ids) - start
            self._count(req, computed * self.prices.computed + start * self.prices.cached)
        if req.req_pool_idx is None:
            self.rows.alloc([req])
            self.rows.write((req.req_pool_idx, slice(0, start)), req.prefix_indices)
        evict_from_tree_cache(self.cache, end - start)
        slots = self.slots.alloc(end - start)
        assert slots is not None, "PrefillAdder admitted more than there is room for"
        self.rows.write((req.req_pool_idx, slice(start, end)), slots)
        req.kv_committed_len = end
        return end - start

    def _decode(self) -> None:
        while not self._room_for(len(self.running_batch.reqs)):
            self._retract(self.running_batch.reqs.pop())
        reqs = self.running_batch.reqs
        self.now += self.device.costs.of(0, len(reqs))
        rows = torch.tensor([req.req_pool_idx for req in reqs])
        ends = torch.tensor([req.kv_committed_len for req in reqs])
        self.rows.write((rows, ends), self.slots.alloc(len(reqs)).to(torch.int32))
        for req in reqs:
            req.kv_committed_len += 1
            self._produce(req)
        left = [req for req in reqs if req.finished_reason is None]
        if len(left) < len(reqs):
            self.running_batch.batch_is_full = False
        self.running_batch.reqs = left
        self._processed()

    def _processed(self) -> None:
        """A step's results were looked at, as the scheduler tells the cache."""
        if isinstance(self.cache, TenantRadixCache):
            self.cache.core.device_frees.advance()

    def _room_for(self, tokens: int) -> bool:
        evict_from_tree_cache(self.cache, tokens)
        return bool(self.slots.available_size() >= tokens)

    def _retract(self, req: Req) -> None:
        self._release(req, insert=False)
        req.reset_for_retract()
        self.retractions += 1
        self.running_batch.batch_is_full = False
        self._wait(req)

    def _produce(self, req: Req) -> None:
        served = self.served[req]
        req.output_ids.append(ANSWER)
        produced = len(req.output_ids)
        if produced > served.produced:
            served.produced = produced
            self._count(req, self.prices.output)
        if served.first_token < 0:
            served.first_token = self.now
        if produced >= served.ask.answer:
            served.finished = self.now
            req.finished_reason = FINISH_LENGTH(served.ask.answer)
            self._release(req, insert=True)

    def _release(self, req: Req, *, insert: bool) -> None:
        self.cache.cache_finished_req(req, insert, kv_len_to_handle=req.kv_committed_len)
        self.rows.free(req)

    def _count(self, req: Req, service: float) -> None:
        self.service[account_name(req.user_id)] += service

    def abort(self, req: Req) -> None:
        """As the client does who goes away: while the request waits, is chunked, or runs."""
        req.finished_reason = FINISH_ABORT("gone")
        self.running_batch.batch_is_full = False
        if req in self.waiting_queue:
            self._leave({req})
        elif req is self.chunked_req:
            self.chunked_req = None
            self._release(req, insert=False)
        elif req in self.running_batch.reqs:
            self.running_batch.reqs.remove(req)
            self._release(req, insert=False)
