"""A scheduler's dealings with the tree, without the model: real pools, real requests, and
in each KV slot a stamp of what a model would have computed there."""

from __future__ import annotations

import atexit
import zlib
from array import array
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
import torch

from sglang.srt import platforms
from sglang.srt.managers.schedule_batch import Req, ReqKvInfo
from sglang.srt.mem_cache.allocator import TokenToKVPoolAllocator
from sglang.srt.mem_cache.base_prefix_cache import (
    EvictParams,
    InitLoadBackParams,
    MatchPrefixParams,
)
from sglang.srt.mem_cache.cache_init_params import CacheInitParams
from sglang.srt.mem_cache.common import evict_from_tree_cache, release_kv_cache
from sglang.srt.mem_cache.hiradix_cache import HiRadixCache
from sglang.srt.mem_cache.memory_pool import MHATokenToKVPool, ReqToTokenPool
from sglang.srt.mem_cache.radix_cache import RadixCache, RadixKey
from sglang.srt.sampling.sampling_params import SamplingParams
from sglang.srt.server_args import ServerArgs, set_global_server_args_for_scheduler
from sglang.srt.tenancy.cache.adapters.hiradix import tenant_cache
from sglang.srt.tenancy.cache.adapters.hiradix.hiradix import TenantHiRadixCache
from sglang.srt.tenancy.cache.adapters.hiradix.radix import TenantRadixCache
from sglang.srt.tenancy.cache.core.node import Node, walk
from sglang.srt.tenancy.cache.core.quota import CacheShares
from sglang.srt.tenancy.namespace import Namespace, adopt
from support.storage import Storage
from support.transfers import Streams

LONGEST = 512  # tokens of a request
SECRET = b"of one life of a server"
_STAMP_BITS = 0xFFFFFF  # what a float32 holds exactly


@dataclass(frozen=True)
class Setting:
    """What an engine is made of; the tenant options have their flags' names."""

    page_size: int = 1
    host: bool = True
    device_tokens: int = 8192
    host_ratio: float = 2.0
    write_policy: str = "write_through"
    overlap: bool = False  # batches are launched before the results of the last are looked at
    storage: bool = False  # there is one that may be attached
    prefetch_policy: str = "wait_complete"
    mode: str = "selective"
    public_users: int = 2
    promotion: str = "count"
    dp_votes: int = 2
    dp_window: int = 16
    dp_period: int = 2
    dp_epsilon: float = 6.0
    dp_delta: float = 0.1
    epoch_requests: int = 1024
    rdr_threshold: float = 0.0
    rdr_min_hits: int = 4
    quarantine_epochs: int = 2
    detector: str = "off-trust-all"
    idle_ttl: float | None = None  # seconds
    shares: CacheShares | None = None
    weights: Mapping[str, float] = field(default_factory=dict)
    ours: bool = True  # or upstream's cache, which cannot be checked

    def server_args(self) -> ServerArgs:
        return ServerArgs(
            model_path="dummy",
            page_size=self.page_size,
            hicache_ratio=self.host_ratio,
            hicache_io_backend="direct",
            hicache_mem_layout="layer_first",
            hicache_write_policy=self.write_policy,
            hicache_storage_prefetch_policy=self.prefetch_policy,
            disable_overlap_schedule=not self.overlap,
            enable_tenant_cache=self.ours,
            tenant_mode=self.mode,
            tenant_public_users=self.public_users,
            tenant_promotion=self.promotion,
            tenant_dp_epsilon=self.dp_epsilon,
            tenant_dp_delta=self.dp_delta,
            tenant_dp_votes=self.dp_votes,
            tenant_dp_window=self.dp_window,
            tenant_dp_period=self.dp_period,
            tenant_epoch_requests=self.epoch_requests,
            tenant_rdr_threshold=self.rdr_threshold,
            tenant_rdr_min_hits=self.rdr_min_hits,
            tenant_quarantine_epochs=self.quarantine_epochs,
            tenant_detector=self.detector,
            tenant_idle_ttl=self.idle_ttl,
        )


def stamps(extra_key: str | None, tokens: array[int]) -> list[int]:
    """One a token: it stands for all that its KV depends on."""
    return _stamps(extra_key, tokens.tobytes())


@lru_cache(maxsize=4096)  # the same prefixes are looked at after every step
def _stamps(extra_key: str | None, tokens: bytes) -> list[int]:
    state = zlib.crc32(repr(extra_key).encode())
    found = []
    for start in range(0, len(tokens), 8):
        state = zlib.crc32(tokens[start : start + 4], state)
        found.append(state & _STAMP_BITS)
    return found


def are_all(places: Iterable[torch.Tensor], first: int, last: int) -> bool:
    """Whether these are the numbers from ``first`` to ``last``, each of them once."""
    numbers = torch.cat(list(places)).numpy()
    expected = np.ones(last + 1, dtype=np.int64)
    expected[:first] = 0
    return np.array_equal(np.bincount(numbers, minlength=last + 1), expected)


@dataclass
class Task:
    """A request on its way: waiting, being prefilled, or decoding."""

    req: Req
    plain: str | None  # upstream's extra key
    chunk: int  # tokens a prefill step may compute
    computed: int = 0  # tokens whose KV is in its row
    hit: int = 0  # of those, found when it was last admitted
    decoding: bool = False
    returned: bool = False  # it was retracted
    admissions: int = 0

    @property
    def user(self) -> str:
        return str(self.req.user_id)

    @property
    def tokens(self) -> array[int]:
        return self.req.origin_input_ids + self.req.output_ids

    @property
    def running(self) -> bool:
        return self.req.kv is not None


@dataclass
class Batch:
    """What the device reads while the scheduler goes on: rows as they were at the launch."""

    rows: list[tuple[Task, int, torch.Tensor, list[int]]]  # task, its admissions, slots, stamps
    arriving: set[int]  # slots whose bytes it waits for


@dataclass
class Seen:
    """What the tree tells of one page of tokens."""

    public: bool
    node: Node
    owners: dict[str, Node] = field(default_factory=dict)


class Engine:
    """One cache on real pools, driven as the scheduler does."""

    def __init__(self, setting: Setting):
        torch.set_num_threads(1)  # nothing here is large
        self.setting = setting
        self.page = setting.page_size
        self.args = setting.server_args()
        set_global_server_args_for_scheduler(self.args)
        self.kv = MHATokenToKVPool(
            size=setting.device_tokens,
            page_size=self.page,
            dtype=torch.float32,
            head_num=1,
            head_dim=1,
            layer_num=1,
            device="cpu",
            enable_memory_saver=False,
        )
        platform: Any = platforms
        kind: Any = (
            TokenToKVPoolAllocator
            if self.page == 1
            else platform.current_platform.get_paged_allocator_cls()
        )
        sizes = (setting.device_tokens,) if self.page == 1 else (setting.device_tokens, self.page)
        self.allocator = kind(*sizes, torch.float32, "cpu", self.kv, need_sort=False)
        self.rows = ReqToTokenPool(32, LONGEST + self.page, "cpu", enable_memory_saver=False)
        params = CacheInitParams(
            disable=False,
            req_to_token_pool=self.rows,
            token_to_kv_pool_allocator=self.allocator,
            page_size=self.page,
            tp_cache_group=torch.distributed.group.WORLD if setting.host else None,
        )
        self.cache = self._new_cache(params)
        self.streams: Streams | None = None
        if setting.host:
            self.streams = Streams(self.cache.cache_controller)
            atexit.unregister(self.cache.shutdown)  # it would keep every engine's memory
        self.storage = Storage(self.cache) if setting.storage else None
        self.tasks: list[Task] = []
        self.launched: list[Batch] = []  # the results of none of them were looked at
        if setting.ours:
            self.cache.core.device_frees.synchronize = self.complete
        self.loaded = 0  # tokens that came back from the host
        self._requests = 0

    def _new_cache(self, params: CacheInitParams) -> Any:
        setting = self.setting
        if not setting.ours:
            return HiRadixCache(params, self.args) if setting.host else RadixCache(params)
        kind: Any = TenantHiRadixCache if setting.host else TenantRadixCache
        # As all ranks of a server have the same, or another process would decide otherwise.
        with mock.patch.object(tenant_cache, "shared_secret", return_value=SECRET):
            return kind(params, self.args, setting.weights, setting.shares)

    # A request's life

    def new_task(
        self,
        user: str | None,  # None: without a name
        prompt: array[int],
        extra_key: str | None = None,
        scope: str | None = None,
        chunk: int = LONGEST,
    ) -> Task:
        self._requests += 1
        req = Req(f"r{self._requests}", "", prompt, SamplingParams(), extra_key=extra_key)
        adopt(req, SimpleNamespace(user_id=user, cache_scope=scope), self.args)
        task = Task(req, extra_key, max(self.page, chunk // self.page * self.page))
        self.tasks.append(task)
        return task

    def peek(self, task: Task) -> int:
        """Match, as the scheduler does for whoever waits. Returns tokens on all tiers."""
        req = task.req
        req.init_next_round_input(self.cache)
        tokens = req.full_untruncated_fill_ids
        self._check_stamps(req.prefix_indices, task.plain, tokens)
        if req.host_hit_length:
            self._check_host_hit(req, stamps(task.plain, tokens))
        return len(req.prefix_indices) + req.host_hit_length

    def _check_host_hit(self, req: Req, expected: list[int]) -> None:
        """What is to be loaded back goes on where the device ends."""
        node, parts = req.best_match_node, []
        while node.value is None:
            parts.append(node.host_value)
            node = node.parent
        slots = torch.cat(parts[::-1])
        assert len(slots) == req.host_hit_length
        start = len(req.prefix_indices)
        pool = self.cache.cache_controller.mem_pool_host
        unfinished = self.streams.unfinished()[1] if self.streams else set()
        end = start + len(slots)
        self._compare(pool.k_buffer[0], slots, expected[start:end], unfinished, "host match")

    def admit(self, task: Task) -> bool:
        """Match, lock, load back, and compute the first chunk. False where memory is short."""
        req, cache = task.req, self.cache
        self.peek(task)
        missing = len(req.full_untruncated_fill_ids) - len(req.prefix_indices)
        matched = req.last_node
        cache.inc_lock_ref(matched)
        try:
            room = self.allocator.available_size() + cache.evictable_size()
            if room < missing + 2 * self.page:
                return False
            if req.needs_host_load_back():
                loaded, req.last_node = cache.init_load_back(
                    InitLoadBackParams(
                        best_match_node=req.best_match_node,
                        host_hit_length=req.host_hit_length,
                        req=req,
                    )
                )
                req.prefix_indices = torch.cat([req.prefix_indices, loaded])
                req.cache_protected_len = len(req.prefix_indices)
                self.loaded += len(loaded)
            cache.inc_lock_ref(req.last_node)
        finally:
            cache.dec_lock_ref(matched)
        if self.streams is not None:
            # Three at most are in flight: upstream has as many events.
            self.streams.finish_loads(max(0, len(self.streams.loads) - 1))
            cache.ready_to_load_host_cache()
            self.streams.announce()
        task.hit = len(req.prefix_indices)
        req.kv = ReqKvInfo(kv_allocated_len=task.hit, swa_evicted_seqlen=0)
        self.rows.alloc([req])
        self.rows.write((req.req_pool_idx, slice(0, task.hit)), req.prefix_indices)
        task.computed = task.hit
        task.decoding = False
        task.admissions += 1
        self._extend(task)
        return True

    def step(self, task: Task, token: int = 0) -> None:
        """One result of the model: a chunk, the first token, or one more token."""
        self.wait_for_loads()
        if task.decoding:
            self._decode(task, token)
        elif task.computed < len(task.req.full_untruncated_fill_ids):
            self.cache.cache_unfinished_req(task.req, chunked=True)
            self._announce()
            assert len(task.req.prefix_indices) == task.computed
            task.req.init_next_round_input()
            self._extend(task)
        else:
            task.req.output_ids.append(token)
            self.cache.cache_unfinished_req(task.req)
            self._announce()
            task.decoding = True
        self._processed()

    def has_room(self, tokens: int) -> bool:
        room: int = self.allocator.available_size() + self.cache.evictable_size()
        return room >= tokens + 2 * self.page

    def finish(self, task: Task) -> None:
        """The request ended, or was aborted while it decoded: all that it computed is kept."""
        self.wait_for_loads()
        self.release(task, insert=True)
        self.tasks.remove(task)

    def retract(self, task: Task) -> None:
        self.wait_for_loads()
        self.release(task, insert=False)
        task.req.reset_for_retract()
        task.computed, task.returned = 0, True

    def abort(self, task: Task) -> None:
        """Before its first token nothing of a request is kept."""
        self.wait_for_loads()
        if task.running:
            self.release(task, insert=False)
        elif self.setting.storage:
            self.cache.release_aborted_request(task.req.rid)
        self.tasks.remove(task)

    def release(self, task: Task, *, insert: bool) -> None:
        release_kv_cache(task.req, self.cache, is_insert=insert)
        self._announce()
        self._processed()

    # Batches that run ahead

    def launch(self) -> None:
        """The scheduler launches a batch of all that run; after that it waits for the one before,
        whose results it looks at next."""
        unfinished = self.streams.unfinished()[0] if self.streams else set()
        rows = []
        for task in self.tasks:
            if task.running:
                slots = self.row(task)[: task.computed].clone()
                stamp = stamps(task.plain, task.tokens[: task.computed])
                rows.append((task, task.admissions, slots, stamp))
        self.launched.append(Batch(rows, unfinished))
        while len(self.launched) > 1:
            self._complete_oldest()

    def processed(self) -> None:
        """The scheduler has looked at a batch's results."""
        self.cache.core.device_frees.advance()

    def complete(self) -> None:
        """Wait for all that was launched."""
        while self.launched:
            self._complete_oldest()

    def _complete_oldest(self) -> None:
        self._check_batch(self.launched[0])
        del self.launched[0]

    def _check_batch(self, batch: Batch) -> None:
        """Whoever still runs has read the right bytes, and nobody got their slots meanwhile. The
        results of the others are thrown away."""
        unfinished = self.streams.unfinished()[0] if self.streams else set()
        free = set(torch.cat([self.allocator.free_pages, self.allocator.release_pages]).tolist())
        for task, admission, slots, stamp in batch.rows:
            if task.running and task.admissions == admission:
                self._compare(
                    self.kv.k_buffer[0], slots, stamp, batch.arriving & unfinished, "batch"
                )
                taken = free.intersection((slots[:: self.page] // self.page).tolist())
                assert not taken, "slots that a launched batch reads were freed"

    def _processed(self) -> None:
        """Without overlap every step is a batch whose results are looked at when it is done."""
        if self.setting.ours and not self.setting.overlap:
            self.cache.core.device_frees.advance()

    def _extend(self, task: Task) -> None:
        req = task.req
        start, total = task.computed, len(req.full_untruncated_fill_ids)
        end = total
        if total - start > task.chunk:
            end = (start + task.chunk) // self.page * self.page
        req.set_extend_range(start, end)
        self._compute(task, end)

    def _decode(self, task: Task, token: int) -> None:
        self._compute(task, task.computed + 1)
        task.req.output_ids.append(token)

    def _compute(self, task: Task, end: int) -> None:
        """The model's part: slots for the tokens up to ``end``, and their KV."""
        req = task.req
        allocated = req.kv.kv_allocated_len
        have = -(-allocated // self.page) * self.page
        wanted = -(-end // self.page) * self.page - have
        if wanted > 0:
            evict_from_tree_cache(self.cache, wanted)
            slots = self.allocator.alloc(wanted)
            assert slots is not None, "what counts as evictable cannot be evicted"
            self.rows.write((req.req_pool_idx, slice(have, have + wanted)), slots)
        row = self.row(task)[task.computed : end]
        values = stamps(task.plain, task.tokens[:end])[task.computed :]
        self.kv.k_buffer[0][row, 0, 0] = torch.tensor(values, dtype=torch.float32)
        self.kv.v_buffer[0][row, 0, 0] = -torch.tensor(values, dtype=torch.float32)
        task.computed = req.kv_committed_len = req.kv.kv_allocated_len = end

    def row(self, task: Task) -> torch.Tensor:
        row: torch.Tensor = self.rows.req_to_token[task.req.req_pool_idx].to(torch.int64)
        return row

    # Transfers and memory

    def _announce(self) -> None:
        if self.streams is not None:
            self.streams.announce()

    def wait_for_loads(self) -> None:
        """The model waits for what it reads."""
        if self.streams is not None:
            self.streams.finish_loads(len(self.streams.loads))

    def land(self, writes: int, loads: int) -> None:
        """So many transfers finish; the scheduler looks, as it does once a round."""
        if self.streams is not None:
            self.streams.finish_writes(writes)
            self.streams.finish_loads(loads)
            self.cache.check_hicache_events()

    # Storage

    def fetch(self, task: Task) -> None:
        """Ask storage for the rest of a waiting prompt, as the scheduler does when it arrives."""
        req, cache = task.req, self.cache
        if not cache.enable_storage or req.rid in cache.ongoing_prefetch:
            return
        self.peek(task)
        start = len(req.prefix_indices) + req.host_hit_length
        fill = req.full_untruncated_fill_ids
        rest = fill[start : req._compute_max_prefix_len(len(fill))]
        above = cache.get_last_hash_value(req.last_host_node)
        cache.prefetch_from_storage(req.rid, req.last_host_node, rest, above, None)

    def settle_fetch(self, task: Task) -> bool:
        """What storage had of a waiting prompt enters the tree. False: wait for it."""
        if not self.setting.storage:
            return True
        done = bool(self.cache.check_prefetch_progress(task.req.rid))
        if done:
            self.cache.pop_prefetch_loaded_tokens(task.req.rid)
        return done

    def evict(self, tokens: int) -> None:
        self.cache.evict(EvictParams(num_tokens=tokens))

    def evict_host(self, tokens: int) -> None:
        if self.setting.host:
            self.cache.evict_host(tokens)

    def flush(self) -> None:
        """As the scheduler's flush, which wants no request and no transfer on its way."""
        assert not any(task.running for task in self.tasks)
        self.complete()
        self.land(10_000, 10_000)
        if self.storage is not None:
            for task in self.tasks:
                self.cache.release_aborted_request(task.req.rid)
            self.storage.land(10_000, 10_000)
            self.land(10_000, 10_000)
        self.cache.reset()
        self.cache.core.device_frees.synchronize = self.complete
        if self.storage is not None:
            self.storage.join()
        self.rows.clear()
        self.allocator.clear()
        for task in self.tasks:
            task.req.last_node = None

    def drain(self) -> None:
        """End everything and empty both tiers: every slot must be back."""
        self.complete()
        for task in list(self.tasks):
            if task.decoding and task.running:
                self.finish(task)
            else:
                self.abort(task)
        for _ in range(2):
            self.land(10_000, 10_000)
            if self.storage is not None:
                self.storage.land(10_000, 10_000)
        self.land(10_000, 10_000)
        self.cache.core.device_frees.flush_idle()
        self.check()
        self.evict(10**6)
        self.evict_host(10**6)
        self.check()
        assert self.allocator.available_size() == self.setting.device_tokens
        assert self.cache.core.device.order.sizes == {}
        assert self.cache.evictable_size() == self.cache.protected_size() == 0
        assert not self.cache.core.tree.logical.tokens()
        assert not self.cache.root_node.children
        if self.setting.host:
            host = self.cache.cache_controller.mem_pool_host
            assert host.available_size() == host.size
            assert self.cache.core.host.order.sizes == {}
            assert not self.cache.ongoing_write_through
            assert not self.cache.ongoing_load_back

    def judge(
        self, user: str, plain: str | None, tokens: array[int], harmless: int, sensitive: int | None
    ) -> None:
        """A verdict arrives on the scheduler's channel."""
        self.cache.apply_scan_result(RadixKey(tokens, Namespace(user, plain)), harmless, sensitive)

    def on_device(self, user: str, tokens: array[int], plain: str | None = None) -> int:
        """Tokens that the device holds for a user."""
        key = RadixKey(tokens, Namespace(user, plain))
        core = self.cache.core
        return int(core.visible_on_device(core.tree.walk_path(key, core.whole_pages(key)))[0])

    # Looking

    def find(self, user: str, tokens: array[int], extra_key: str | None = None) -> int:
        """How many of these tokens a request of this user would find, on all tiers."""
        namespace = extra_key if self.setting.mode == "shared" else Namespace(user, extra_key)
        match = self.cache.match_prefix(MatchPrefixParams(key=RadixKey(tokens, namespace)))
        self._check_stamps(match.device_indices, extra_key, tokens)
        return len(match.device_indices) + int(match.host_hit_length)

    def pages(self) -> dict[tuple[str | None, tuple[int, ...]], Seen]:
        """The tree, page by page: (extra key, all tokens up to the page's end) -> what is there."""
        found: dict[tuple[str | None, tuple[int, ...]], Seen] = {}
        for node, plain, above in self._nodes():
            for start in range(0, len(node.key), self.page):
                end = start + self.page
                place = (plain, (*above, *node.key.token_ids[:end]))
                seen = found.setdefault(place, Seen(not node.owner, node))
                if node.owner:
                    assert not seen.public
                    seen.owners[node.owner] = node
        return found

    def _nodes(self) -> Iterator[tuple[Node, str | None, tuple[int, ...]]]:
        """All nodes, with upstream's extra key and the tokens above."""
        stack: list[tuple[Node, tuple[int, ...]]] = [(self.cache.root_node, ())]
        while stack:
            node, above = stack.pop()
            if node.parent is not None:
                extra = node.key.extra_key
                yield node, extra.extra_key if node.owner else extra, above
            below = (*above, *node.key.token_ids)
            stack.extend((child, below) for child in node.children.values())

    # Checking

    def check(self) -> None:
        """All that must hold after every step."""
        self.cache.sanity_check()
        self._check_bytes()
        self._check_device_slots()
        self._check_nobody_reads_what_may_go()
        if self.setting.host:
            self._check_host_slots()
        for batch in self.launched:
            self._check_batch(batch)

    def _check_bytes(self) -> None:
        """Every node and every running request hold the KV of their tokens."""
        device, host = self.streams.unfinished() if self.streams else (set(), set())
        for node, plain, above in self._nodes():
            tokens = array("q", (*above, *node.key.token_ids))
            expected = stamps(plain, tokens)[len(above) :]
            if node.value is not None:
                self._compare(self.kv.k_buffer[0], node.value, expected, device, "node")
                negative = [-value for value in expected]
                self._compare(self.kv.v_buffer[0], node.value, negative, device, "node")
            if self.setting.host and node.host_value is not None:
                pool = self.cache.cache_controller.mem_pool_host
                self._compare(pool.k_buffer[0], node.host_value, expected, host, "host")
        for task in self.tasks:
            if task.running:
                row = self.row(task)[: task.computed]
                expected = stamps(task.plain, task.tokens[: task.computed])
                self._compare(self.kv.k_buffer[0], row, expected, device, "request")

    def _check_stamps(self, slots: torch.Tensor, plain: str | None, tokens: array[int]) -> None:
        unfinished = self.streams.unfinished()[0] if self.streams else set()
        expected = stamps(plain, tokens[: len(slots)])
        self._compare(self.kv.k_buffer[0], slots, expected, unfinished, "match")

    @staticmethod
    def _compare(
        buffer: torch.Tensor, slots: torch.Tensor, expected: list[int], skip: set[int], where: str
    ) -> None:
        found = buffer[slots, 0, 0].tolist()
        if found == expected:
            return
        wrong = [
            at
            for at, slot in enumerate(slots.tolist())
            if found[at] != expected[at] and slot not in skip
        ]
        assert not wrong, f"{where}: KV of other tokens at {wrong[:8]} of {len(expected)}"

    def _check_device_slots(self) -> None:
        page = self.page
        places = [self.allocator.free_pages, self.allocator.release_pages]
        for node, _, _ in self._nodes():
            if node.value is not None:
                places.append(node.value[::page] // page)
        for node in self.cache.core.tree.logical.freed:
            if node.value is not None:
                places.append(node.value[::page] // page)
        places += [slots[::page] // page for slots in self.cache.core.device_frees.slots()]
        own = 0
        for task in self.tasks:
            if task.running:
                req = task.req
                end = -(-req.kv.kv_allocated_len // page) * page
                places.append(self.row(task)[req.cache_protected_len : end : page] // page)
                own += end - req.cache_protected_len
        pages = self.setting.device_tokens // page
        assert are_all(places, 1, pages), "a slot in two places, or in none"
        cache = self.cache
        counted = self.allocator.available_size() + cache.evictable_size() + cache.protected_size()
        assert counted + own == self.setting.device_tokens

    def _check_nobody_reads_what_may_go(self) -> None:
        """What a running request reads is its own, or locked: not free, and not evictable."""
        page = self.page
        loose = [self.allocator.free_pages, self.allocator.release_pages]
        loose += [
            node.value[::page] // page
            for node, _, _ in self._nodes()
            if node.value is not None and not node.lock_ref
        ]
        may_go = set(torch.cat(loose).tolist())
        for task in self.tasks:
            if task.running:
                read = self.row(task)[: task.computed : page] // page
                assert may_go.isdisjoint(read.tolist()), "a request reads what nobody keeps for it"

    def _fetched_slots(self) -> list[torch.Tensor]:
        """Host slots of what comes from storage, until it enters the tree or is given back."""
        if self.storage is None or not self.storage.attached:
            return []
        cache, slots = self.cache, []
        queue = self.storage.controller.prefetch_buffer.queue
        ongoing = [operation for _, _, operation in cache.ongoing_prefetch.values()]
        for operation in dict.fromkeys((*ongoing, *queue)):
            if operation.host_indices is None:
                continue
            end = len(operation.host_indices) if operation in queue else operation.completed_tokens
            start = 0 if operation in ongoing else operation.completed_tokens
            slots.append(operation.host_indices[start:end])
        return slots + list(cache.cache_controller.host_mem_release_queue.queue)

    def _check_host_slots(self) -> None:
        pool = self.cache.cache_controller.mem_pool_host
        places = [pool.free_slots, *pool.release_slots]
        places += [node.host_value for node in walk(self.cache.root_node)]
        places += self.cache.core.host_frees.slots()
        places += self._fetched_slots()
        held = [place for place in places if place is not None]
        assert are_all(held, 0, pool.size - 1), "a host slot in two places, or in none"
