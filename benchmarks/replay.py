"""Many users on one modelled device: real policies, real requests, real cache, no clock.

    python benchmarks/replay.py [--policies fcfs lpm vtc dlpm] [--users 1000] [--out FILE.json]

The scheduler's round is played with upstream's SchedulePolicy or ours, upstream's PrefillAdder
and our TenantRadixCache on real pools. Only the model is not real: a step takes the seconds
that ``Costs`` says, so every run of a trace gives the same result on every machine.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
from array import array
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from fair_service.record import Ask, Served

from sglang.srt.managers.schedule_batch import FINISH_ABORT, FINISH_LENGTH, Req
from sglang.srt.managers.schedule_policy import AddReqResult, PrefillAdder
from sglang.srt.mem_cache.allocator import TokenToKVPoolAllocator
from sglang.srt.mem_cache.cache_init_params import CacheInitParams
from sglang.srt.mem_cache.common import evict_from_tree_cache
from sglang.srt.mem_cache.memory_pool import MHATokenToKVPool, ReqToTokenPool
from sglang.srt.sampling.sampling_params import SamplingParams
from sglang.srt.server_args import ServerArgs, set_global_server_args_for_scheduler
from sglang.srt.tenancy.cache.radix import TenantRadixCache
from sglang.srt.tenancy.ownership import adopt
from sglang.srt.tenancy.schedule.accounts import Prices
from sglang.srt.tenancy.schedule.policy import policy_class, turns
from sglang.srt.tenancy.user_id import account_name


@dataclass(frozen=True)
class Costs:
    """Seconds of a step, and for each token in it that is computed."""

    step: float = 0.010
    prefill: float = 0.000_05
    decode: float = 0.000_2

    def of(self, prefill: int, decode: int) -> float:
        return self.step + prefill * self.prefill + decode * self.decode


@dataclass(frozen=True)
class Device:
    """``memory``: tokens; ``chunk``: tokens to a prefill step, None is unlimited.

    ``reserve``: the share of a running request's longest answer that is kept free for it,
    upstream's new token ratio. With less than 1 memory can run out, and requests are retracted.
    """

    memory: int = 20_000
    running: int = 64
    chunk: int | None = 2048
    reserve: float = 0.7
    costs: Costs = field(default_factory=Costs)


@dataclass
class Running:
    """As much of upstream's batch as PrefillAdder looks at."""

    reqs: list[Req] = field(default_factory=list)

    def batch_size(self) -> int:
        return len(self.reqs)


# Called after every step with the user's service so far and those who wait.
Watch = Callable[[dict[str, float], set[str]], None]


class Engine:
    """One scheduler, its cache, and a device that takes ``device.costs``.

    ``served``: one entry for each request that came. ``service``: user -> tokens by price;
    a prompt counts when it is admitted, an answer's token when it is produced.
    """

    kind_of_cache: type[TenantRadixCache] = TenantRadixCache

    def __init__(
        self,
        policy: str,
        device: Device | None = None,
        *,
        weights: dict[str, float] | None = None,
        watch: Watch | None = None,
        **options: Any,
    ):
        self.device = device or Device()
        options = {"tenant_mode": "isolated"} | options
        args = ServerArgs(model_path="dummy", enable_tenant_cache=True, **options)
        set_global_server_args_for_scheduler(args)
        self.options, self.prices, self.watch = args, Prices.of(args), watch
        self._make_cache(weights or {})
        build: Any = policy_class(args, policy)
        if hasattr(build, "keywords"):
            build.keywords["weights"] = weights or {}
        self.policy = build(policy, self.cache, False, False, False)
        self.now = 0.0
        self.waiting: list[Req] = []
        self.running = Running()
        self.chunked: Req | None = None
        self.full = False
        self.served: dict[Req, Served] = {}
        self.service: dict[str, float] = defaultdict(float)
        self.idle_rounds = 0  # nothing ran though somebody waited
        self.retractions = 0
        self.computed = 0
        self._paid: dict[Req, int] = {}

    def _make_cache(self, weights: dict[str, float]) -> None:
        size, rows = self.device.memory, self.device.running + 1
        kv = MHATokenToKVPool(
            size=size,
            page_size=1,
            dtype=torch.float32,
            head_num=1,
            head_dim=1,
            layer_num=1,
            device="cpu",
            enable_memory_saver=False,
        )
        self.slots = TokenToKVPoolAllocator(size, torch.float32, "cpu", kv, need_sort=False)
        self.rows = ReqToTokenPool(rows, size, "cpu", enable_memory_saver=False)
        params = CacheInitParams(
            disable=False,
            req_to_token_pool=self.rows,
            token_to_kv_pool_allocator=self.slots,
            page_size=1,
        )
        self.cache = self.kind_of_cache(params, self.options, weights)

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
        return bool(self.waiting or self.running.reqs or self.chunked)

    def receive(self, ask: Ask) -> Req:
        req = Req(
            str(len(self.served)),
            "",
            array("q", ask.prompt),
            SamplingParams(max_new_tokens=ask.answer),
        )
        adopt(req, SimpleNamespace(user_id=ask.user, cache_scope=None), self.options)
        self.waiting.append(req)
        self.served[req] = Served(ask)
        return req

    def step(self) -> None:
        """One step of the device: a prefill batch if there is one, else a token for each."""
        batch = self._admit()
        if batch:
            self._prefill(batch)
        elif self.running.reqs:
            self._decode()
        else:
            self.idle_rounds += bool(self.waiting)
            self.now += self.device.costs.step
        if self.watch:
            self.watch(self.service, {account_name(req.user_id) for req in self.waiting})

    def _admit(self) -> list[Req]:
        """The scheduler's _get_new_batch_prefill_raw, as far as it concerns one device."""
        free = self.device.running - len(self.running.reqs)
        if self.chunked is None and (self.full or not self.waiting or free <= 0):
            return []
        self.policy.calc_priority(self.waiting, self.running)
        adder = PrefillAdder(
            1,
            self.cache,
            self.slots,
            self.running,
            self.device.reserve,
            16_384,
            self.device.chunk,
        )
        if self.chunked is not None:
            self.chunked.init_next_round_input()
            self.chunked = adder.add_chunked_req(self.chunked)
        for req in turns(self.policy, self.waiting, adder):
            if len(adder.can_run_list) >= free or self.full:
                self.full = True
                break
            req.init_next_round_input(self.cache)
            result = adder.add_one_req(req, self.chunked is not None, None)
            if result != AddReqResult.CONTINUE:
                self.full = result == AddReqResult.NO_TOKEN
                break
        admitted = set(adder.can_run_list)
        self.waiting = [req for req in self.waiting if req not in admitted]
        if adder.new_chunked_req is not None:
            self.chunked = adder.new_chunked_req
        return list(adder.can_run_list)

    # The device

    def _prefill(self, batch: list[Req]) -> None:
        tokens = 0
        for req in batch:
            tokens += self._extend(req)
        self.computed += tokens
        self.now += self.device.costs.of(tokens, 0)
        for req in batch:
            self.cache.cache_unfinished_req(req, chunked=req is self.chunked)
            if req is not self.chunked:
                self._produce(req)
                if not req.finished():
                    self.running.reqs.append(req)

    def _extend(self, req: Req) -> int:
        """Slots for the part of a prompt that this step computes. Returns its tokens."""
        start, end = req.extend_range.start, req.extend_range.end
        served = self.served[req]
        if served.admitted < 0:
            served.admitted, served.cached = self.now, start
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
        while not self._room_for(len(self.running.reqs)):
            self._retract(self.running.reqs.pop())
        self.now += self.device.costs.of(0, len(self.running.reqs))
        for req in self.running.reqs:
            slot = self.slots.alloc(1)
            assert slot is not None
            end = req.kv_committed_len
            self.rows.write((req.req_pool_idx, slice(end, end + 1)), slot)
            req.kv_committed_len = end + 1
            self._produce(req)
        left = [req for req in self.running.reqs if not req.finished()]
        self.full = self.full and len(left) == len(self.running.reqs)
        self.running.reqs = left

    def _room_for(self, tokens: int) -> bool:
        evict_from_tree_cache(self.cache, tokens)
        return bool(self.slots.available_size() >= tokens)

    def _retract(self, req: Req) -> None:
        self._release(req, insert=False)
        req.reset_for_retract()
        self.retractions += 1
        self.full = False
        self.waiting.append(req)

    def _produce(self, req: Req) -> None:
        served = self.served[req]
        req.output_ids.append(1_000_000_000 + len(req.output_ids))
        if len(req.output_ids) > self._paid.get(req, 0):
            self._paid[req] = len(req.output_ids)
            self._count(req, self.prices.output)
        served.produced = max(served.produced, len(req.output_ids))
        if served.first_token < 0:
            served.first_token = self.now
        if len(req.output_ids) >= served.ask.answer:
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
        self.full = False
        if req in self.waiting:
            self.waiting.remove(req)
        elif req is self.chunked:
            self.chunked = None
            self._release(req, insert=False)
        elif req in self.running.reqs:
            self.running.reqs.remove(req)
            self._release(req, insert=False)


class Gaps:
    """The most that one user's service, by weight, ran ahead of another's while both waited."""

    def __init__(self, weights: dict[str, float] | None = None):
        self.weights = weights or {}
        self.worst = 0.0
        self._ranges: dict[tuple[str, str], tuple[float, float]] = {}

    def __call__(self, service: dict[str, float], waiting: set[str]) -> None:
        users = sorted(waiting)
        ranges: dict[tuple[str, str], tuple[float, float]] = {}
        for i, one in enumerate(users):
            for other in users[i + 1 :]:
                ahead = self._of(service, one) - self._of(service, other)
                low, high = self._ranges.get((one, other), (ahead, ahead))
                low, high = min(low, ahead), max(high, ahead)
                ranges[one, other] = (low, high)
                self.worst = max(self.worst, high - low)
        self._ranges = ranges

    def _of(self, service: dict[str, float], user: str) -> float:
        return service.get(user, 0.0) / self.weights.get(user, 1.0)


def proven_bound(engine: Engine, longest_prompt: int) -> float:
    """VTC's: what two users who both wait can differ by, at most."""
    prices = engine.prices
    return 2 * max(prices.computed * longest_prompt, prices.output * engine.device.memory)


def conversations(users: int, seed: int, heavy: int = 10) -> list[Ask]:
    """Most users ask little; ``heavy`` of them ask without end. All have a beginning of their own.

    One request in four begins as another of the same user does.
    """
    rng = random.Random(seed)
    trace: list[Ask] = []
    for number in range(users):
        asks = 200 if number < heavy else rng.randrange(1, 5)
        system = _tokens(rng, 400)
        for _ in range(asks):
            prompt = (system if rng.random() < 0.7 else []) + _tokens(rng, rng.randrange(20, 400))
            at = rng.random() * (5 if number < heavy else 120)
            trace.append(Ask(at, f"u{number}", prompt, rng.randrange(4, 120)))
    return trace


def _tokens(rng: random.Random, count: int) -> list[int]:
    return [rng.randrange(1 << 30) for _ in range(count)]


def summary(engine: Engine, heavy: set[str]) -> dict[str, float]:
    """Seconds are the model's. Light: all users that are not ``heavy``."""
    done = list(engine.served.values())
    waits = [s.first_token - s.ask.at for s in done if s.ask.user not in heavy]
    prompts = sum(len(s.ask.prompt) for s in done)
    answers = sum(s.ask.answer for s in done)
    return {
        "seconds": round(engine.now, 3),
        "tokens_per_second": round((prompts + answers) / engine.now, 1),
        "cached_share": round(sum(s.cached for s in done) / prompts, 4),
        "light_first_token_p50": round(statistics.median(waits), 3),
        "light_first_token_p99": round(statistics.quantiles(waits, n=100)[98], 3),
        "retractions": engine.retractions,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--policies", nargs="+", default=["fcfs", "lpm", "vtc", "dlpm"])
    parser.add_argument("--users", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    trace = conversations(args.users, args.seed)
    heavy = {f"u{number}" for number in range(10)}
    results: dict[str, Any] = {"users": args.users, "seed": args.seed, "device": asdict(Device())}
    for policy in args.policies:
        engine = Engine(policy)
        engine.play(trace)
        results[policy] = summary(engine, heavy)
        print(policy, results[policy], file=sys.stderr)
    text = json.dumps(results, indent=2) + "\n"
    if args.out:
        args.out.write_text(text)
    else:
        print(text, end="")


if __name__ == "__main__":
    main()
