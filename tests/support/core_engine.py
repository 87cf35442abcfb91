"""The policy alone, without upstream's classes and torch: slots are numbers, and transfers are done
as soon as they begin. Driven as ``engine.Engine`` is, so the same plays run on both."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from sglang.srt.tenancy.cache.core.cache import Engine, Lasting, OwnedCache, TierSize
from sglang.srt.tenancy.cache.core.check import digest
from sglang.srt.tenancy.cache.core.erasure import Erased, NoStorage
from sglang.srt.tenancy.cache.core.interfaces import NoTransfers, TierName
from sglang.srt.tenancy.cache.core.node import LOGICALLY_FREED, Node, walk
from sglang.srt.tenancy.cache.core.options import PolicyOptions
from sglang.srt.tenancy.namespace import Namespace, adopt, keeps_out_of_tree, stays_private
from support.engine import LONGEST, SECRET, Seen, Setting, Task, stamps

Slots = list[int]


class Key:
    """Tokens and their namespace."""

    __slots__ = ("extra_key", "token_ids")

    def __init__(self, token_ids: array[int], extra_key: Any = None):
        self.token_ids = token_ids
        self.extra_key = extra_key

    def __len__(self) -> int:
        return len(self.token_ids)

    def __getitem__(self, part: slice) -> Key:
        return Key(self.token_ids[part], self.extra_key)


class Pool:
    """Numbers from 0 on, and what is stored under them."""

    def __init__(self, size: int):
        self.size = size
        self.clear()

    def clear(self) -> None:
        self.free = list(range(self.size))
        self.content = [-1] * self.size

    def take(self, number: int) -> Slots:
        taken = self.free[len(self.free) - number :]
        del self.free[len(self.free) - number :]
        return taken

    def give(self, slots: Slots) -> None:
        for slot in slots:
            assert self.content[slot] != -1, "a slot is freed twice"
            self.content[slot] = -1
        self.free += slots


class ListMemory:
    """Slots of both tiers as lists of numbers."""

    def __init__(self, device: Pool, host: Pool):
        self._device, self._host = device, host

    def concat(self, parts: Sequence[Slots]) -> Slots:
        return [slot for part in parts for slot in part]

    def copy(self, slots: Slots) -> Slots:
        return list(slots)

    def numbers(self, slots: Slots) -> Slots:
        return slots

    def available(self) -> int:
        return len(self._device.free)

    def free_device(self, slots: Slots) -> None:
        self._device.give(slots)

    def free_host(self, slots: Slots) -> None:
        self._host.give(slots)

    def synchronize(self) -> None:
        pass


class NoEvents:
    """Nobody calls pages by name."""

    def created(self, node: Node) -> None:
        pass

    def stored(self, node: Node, tier: TierName) -> None:
        pass

    def removed(self, node: Node, tier: TierName) -> None:
        pass

    def split(self, upper: Node, lower: Node, tokens: int) -> None:
        pass

    def join(self, node: Node, child: Node) -> None:
        pass

    def withdraw(self, top: Node) -> None:
        pass

    def announce(self, top: Node) -> None:
        pass

    def removed_everywhere(self, node: Node) -> None:
        pass


class WriteThrough(NoTransfers):
    """Copies a node to the host when an insertion passes it, ``threshold`` times."""

    def __init__(self, engine: CoreEngine, threshold: int):
        self._engine = engine
        self._threshold = threshold

    def record_hit(self, node: Node, chunked: bool) -> None:
        if chunked:
            return
        node.hit_count += 1
        assert node.parent is not None
        wanted = node.hit_count >= self._threshold and node.parent.host_value is not None
        if wanted and node.host_value is None:
            self._engine.write(node)


@dataclass(eq=False)
class Request:
    """What the policy's caller knows of a request. ``kv``: something while it runs."""

    rid: str
    origin_input_ids: array[int]
    extra_key: Any
    user_id: str | None = None
    cache_scope: str | None = None
    counted_to: int | None = None
    output_ids: array[int] = field(default_factory=lambda: array("q"))
    cache_protected_len: int = 0
    last_node: Any = None
    row: Slots = field(default_factory=list)
    kv: object | None = None

    @property
    def full_untruncated_fill_ids(self) -> array[int]:
        return self.origin_input_ids + self.output_ids


class CoreCache:
    """The calls of the tenant caches that a play makes itself."""

    def __init__(self, engine: CoreEngine):
        self._engine = engine
        self.new_core()

    def new_core(self) -> None:
        self.core: OwnedCache = self._engine.new_core()

    def publish(self, tokens: Sequence[int]) -> None:
        self.core.publish(tokens)

    def withdraw(self, tokens: Sequence[int]) -> None:
        self.core.withdraw(tokens)

    def erase(self, user: str, requests: Iterable[Request] = ()) -> Erased:
        for request in requests:
            if request.user_id == user:
                request.cache_scope = "none"
        return self.core.erase(user)

    def tick(self, seconds: int, requests: Iterable[Request] = ()) -> int:
        return self.core.idle.tick(seconds, {request.user_id for request in requests})

    def digest(self) -> str:
        return digest(self.core.tree)

    def evict(self, tokens: int) -> None:
        self.core.evictor.evict(tokens)

    def evict_host(self, tokens: int) -> None:
        if self.core.host_evictor is not None:
            self.core.host_evictor.evict(tokens)


class CoreEngine:
    """One policy on pools of numbers."""

    storage = None

    def __init__(self, setting: Setting):
        assert not setting.overlap, "batches are done as soon as they are launched"
        assert not setting.storage
        self.setting = setting
        self.page = setting.page_size
        self.options = PolicyOptions(
            mode=setting.mode,
            public_users=setting.public_users,
            epoch_requests=setting.epoch_requests,
            detector=setting.detector,
            rdr_threshold=setting.rdr_threshold,
            rdr_min_hits=setting.rdr_min_hits,
            quarantine_epochs=setting.quarantine_epochs,
            idle_ttl=setting.idle_ttl,
            promotion=setting.promotion,
            dp_epsilon=setting.dp_epsilon,
            dp_delta=setting.dp_delta,
            dp_votes=setting.dp_votes,
            dp_window=setting.dp_window,
            dp_period=setting.dp_period,
        )
        self._flags = SimpleNamespace(enable_tenant_cache=True, tenant_mode=setting.mode)
        self.device = Pool(setting.device_tokens)
        host = int(setting.device_tokens * setting.host_ratio) // self.page * self.page
        self.host = Pool(host if setting.host else 0)
        self._lasting = Lasting(self.page, self.options, SECRET)
        self._memory = ListMemory(self.device, self.host)
        self.cache = CoreCache(self)
        self.tasks: list[Task] = []
        self._requests = 0

    def new_core(self) -> OwnedCache:
        threshold = 1 if self.setting.write_policy == "write_through" else 2
        engine = Engine(
            page_size=self.page,
            new_key=Key,
            empty=[],
            root_priority=0,
            priority=lambda node: node.last_access_time,
            device=TierSize(self.device.size, set()),
            host=TierSize(self.host.size, set()) if self.setting.host else None,
            memory=self._memory,
            transfers=WriteThrough(self, threshold) if self.setting.host else NoTransfers(),
            events=NoEvents(),
            storage=NoStorage(),
        )
        return OwnedCache(
            engine, self.options, self._lasting, self.setting.weights, self.setting.shares
        )

    @property
    def core(self) -> OwnedCache:
        return self.cache.core

    # Transfers

    def write(self, node: Node) -> None:
        """Copy a node to the host, if there is room."""
        size = len(node.key)
        if len(self.host.free) < size:
            self.cache.evict_host(size - len(self.host.free))
        if len(self.host.free) < size:
            return
        slots = self.host.take(size)
        for slot, source in zip(slots, node.value, strict=True):
            self.host.content[slot] = self.device.content[source]
        node.host_value = slots
        self.core.tree.host.update(node)

    def _load_back(self, last: Node) -> Node:
        """Copy what only the host has to the device, if there is room. Returns the last node that
        is there."""
        absent, above = [], last
        while above.value is None:
            absent.append(above)
            assert above.parent is not None
            above = above.parent
        needed = sum(len(node.key) for node in absent)
        if not needed or not self._has_free(needed):
            return above
        tree = self.core.tree
        for node in reversed(absent):
            node.value = self.device.take(len(node.key))
            for slot, source in zip(node.value, node.host_value, strict=True):
                self.device.content[slot] = self.host.content[source]
        self.core.device.evictable += needed
        for node in absent:  # the deepest first: a parent counts its children
            self.core.device.update(node)
            tree.host.update(node)
        self.core.device.update(above)
        return last

    def _has_free(self, tokens: int) -> bool:
        if len(self.device.free) < tokens:
            self.cache.evict(tokens - len(self.device.free))
        return len(self.device.free) >= tokens

    def land(self, writes: int, loads: int) -> None:
        self.core.host_frees.check()
        self.core.quota.enforce()

    def wait_for_loads(self) -> None:
        pass

    # A request's life

    def new_task(
        self,
        user: str | None,
        prompt: array[int],
        extra_key: str | None = None,
        scope: str | None = None,
        chunk: int = LONGEST,
    ) -> Task:
        self._requests += 1
        req: Any = Request(f"r{self._requests}", prompt, extra_key)
        flags: Any = self._flags
        adopt(req, SimpleNamespace(user_id=user, cache_scope=scope), flags)
        task = Task(req, extra_key, max(self.page, chunk // self.page * self.page))
        self.tasks.append(task)
        return task

    def _match(self, task: Task) -> tuple[Slots, Node]:
        tokens = task.tokens[:-1]  # the last one is always computed
        values, last = self.core.match(Key(tokens, task.req.extra_key))
        slots = self._memory.concat(values)
        self._compare(self.device, slots, stamps(task.plain, tokens)[: len(slots)])
        return slots, last

    def peek(self, task: Task) -> int:
        """Match; returns the tokens found on all tiers."""
        return self.core.tree.depth(self._match(task)[1])

    def admit(self, task: Task) -> bool:
        """Match, load back, lock, and compute the first chunk. False where memory is short."""
        req: Any = task.req
        slots, last = self._match(task)
        on_device = last
        while on_device.value is None:
            assert on_device.parent is not None
            on_device = on_device.parent
        self.core.lock(on_device)
        if self.has_room(len(task.tokens) - len(slots)):
            req.last_node = self._load_back(last)
            self.core.lock(req.last_node)
            req.row = self._memory.concat(self.core.tree.slots_down_to(req.last_node))
            req.cache_protected_len = task.computed = task.hit = len(req.row)
            req.kv, task.decoding = task, False
            task.admissions += 1
        self.core.unlock(on_device)
        if task.running:
            self._extend(task)
        return task.running

    def has_room(self, tokens: int) -> bool:
        return len(self.device.free) + self.core.device.evictable >= tokens + 2 * self.page

    def _extend(self, task: Task) -> None:
        end = total = len(task.tokens)
        if total - task.computed > task.chunk:
            end = (task.computed + task.chunk) // self.page * self.page
        self._compute(task, end)

    def _compute(self, task: Task, end: int) -> None:
        row = task.req.row  # type: ignore[attr-defined]
        missing = -(-end // self.page) * self.page - len(row)
        if missing > 0:
            assert self._has_free(missing), "what counts as evictable cannot be evicted"
            row += self.device.take(missing)
        for slot, stamp in zip(row, stamps(task.plain, task.tokens[:end]), strict=False):
            self.device.content[slot] = stamp
        for slot in row[end:]:
            self.device.content[slot] = 0  # the rest of a page
        task.computed = end

    def step(self, task: Task, token: int = 0) -> None:
        """One result of the model: a chunk, the first token, or one more token."""
        req: Any = task.req
        if task.decoding:
            self._compute(task, task.computed + 1)
            req.output_ids.append(token)
        elif task.computed < len(task.tokens):
            self._insert_unfinished(task, chunked=True)
            self._extend(task)
        else:
            req.output_ids.append(token)
            self._insert_unfinished(task, chunked=False)
            task.decoding = True
        self.core.device_frees.advance()

    def _insert(self, task: Task, *, chunked: bool) -> tuple[Key, Any] | None:
        """Put what a request computed into the tree; None where it must keep out."""
        req: Any = task.req
        key = Key(task.tokens[: task.computed], req.extra_key)
        end = self.core.whole_pages(key)
        if keeps_out_of_tree(req):
            return None
        path = self.core.tree.walk_path(key, end)
        if self.core.visible_on_device(path)[0] < req.cache_protected_len:
            req.cache_scope = "none"
            return None
        private = stays_private(req)
        return key, self.core.tree.insert(key, end, req.row[:end], 0, chunked, private, path)

    def _insert_unfinished(self, task: Task, *, chunked: bool) -> None:
        req: Any = task.req
        inserted = self._insert(task, chunked=chunked)
        if inserted is None:
            self._count(task, self._place_of(task), None)
        else:
            key, (held, last) = inserted
            self.core.device_frees.add(req.row[req.cache_protected_len : held])
            self.core.lock(last)
            if self._was_moved(task):
                self.core.device_frees.add_lock(req.last_node)
            else:
                self.core.unlock(req.last_node)
            slots = self._memory.concat(self.core.tree.slots_down_to(last))
            req.row[: len(slots)] = slots
            req.last_node, req.cache_protected_len = last, len(slots)
            self._count(task, last, key)
        self.core.quota.enforce()

    def _was_moved(self, task: Task) -> bool:
        node: Any = task.req.last_node
        while node.parent is not None:
            if node.state & LOGICALLY_FREED or (node.owner and node.owner != task.req.user_id):
                return True
            node = node.parent
        return False

    def _place_of(self, task: Task) -> Node:
        req: Any = task.req
        if not self._was_moved(task):
            last: Node = req.last_node
            return last
        path = self.core.tree.walk_path(Key(task.tokens, req.extra_key), req.cache_protected_len)
        return self.core.visible_on_device(path)[1]

    def _count(self, task: Task, last: Node, inserted: Key | None) -> None:
        req: Any = task.req
        inserted = None if stays_private(req) else inserted
        req.counted_to = self.core.count_request(req.user_id, last, inserted, req.counted_to)

    def finish(self, task: Task) -> None:
        """The request ended, and all that it computed is kept."""
        self._release(task, insert=True)
        self.tasks.remove(task)

    def retract(self, task: Task) -> None:
        self._release(task, insert=False)
        task.computed, task.returned = 0, True

    def abort(self, task: Task) -> None:
        if task.running:
            self._release(task, insert=False)
        self.tasks.remove(task)

    def _release(self, task: Task, *, insert: bool) -> None:
        req: Any = task.req
        protected, freed_to = req.cache_protected_len, task.computed // self.page * self.page
        end = freed_to
        if insert:
            inserted = self._insert(task, chunked=False)
            if inserted is None:
                self._count(task, self._place_of(task), None)
            else:
                key, (freed_to, last) = inserted
                self._count(task, last, key)
        self.device.give(req.row[protected:freed_to] + req.row[end:])
        self.core.unlock(req.last_node)
        req.kv, req.row, req.cache_protected_len, req.last_node = None, [], 0, None
        self.core.quota.enforce()
        self.core.device_frees.advance()

    def flush(self) -> None:
        """Forget everything but what a flush leaves."""
        assert not any(task.running for task in self.tasks)
        self.device.clear()
        self.host.clear()
        self.cache.new_core()

    def drain(self) -> None:
        """End everything and empty both tiers: every slot must be back."""
        for task in list(self.tasks):
            if task.decoding and task.running:
                self.finish(task)
            else:
                self.abort(task)
        self.core.device_frees.flush_idle()
        self.land(0, 0)
        self.check()
        self.evict(10**6)
        self.evict_host(10**6)
        self.check()
        assert not self.core.tree.root.children
        for pool, order in zip((self.device, self.host), self.core.orders, strict=False):
            assert len(pool.free) == pool.size
            assert order.sizes == {}

    def evict(self, tokens: int) -> None:
        self.cache.evict(tokens)

    def evict_host(self, tokens: int) -> None:
        self.cache.evict_host(tokens)

    def judge(
        self, user: str, plain: str | None, tokens: array[int], harmless: int, sensitive: int | None
    ) -> None:
        self.core.apply_scan_result(Key(tokens, Namespace(user, plain)), harmless, sensitive)

    def on_device(self, user: str, tokens: array[int], plain: str | None = None) -> int:
        key = Key(tokens, Namespace(user, plain))
        path = self.core.tree.walk_path(key, self.core.whole_pages(key))
        return self.core.visible_on_device(path)[0]

    # Looking and checking

    def pages(self) -> dict[tuple[str | None, tuple[int, ...]], Seen]:
        """The tree, page by page: (extra key, all tokens up to the page's end) -> what is there."""
        found: dict[tuple[str | None, tuple[int, ...]], Seen] = {}
        stack: list[tuple[Node, tuple[int, ...]]] = [(self.core.tree.root, ())]
        while stack:
            node, above = stack.pop()
            tokens = (*above, *node.key.token_ids)
            extra = node.key.extra_key
            plain = extra.extra_key if node.owner else extra
            for end in range(len(above) + self.page, len(tokens) + 1, self.page):
                seen = found.setdefault((plain, tokens[:end]), Seen(not node.owner, node))
                if node.owner:
                    assert not seen.public
                    seen.owners[node.owner] = node
            stack.extend((child, tokens) for child in node.children.values())
        return found

    def check(self) -> None:
        """All that must hold after every step."""
        self.core.sanity_check()
        taken = [*self.device.free, *self._memory.concat(self.core.device_frees.slots())]
        on_host = list(self.host.free)
        for node in walk(self.core.tree.root):
            expected = self._expected(node)
            if node.value is not None:
                self._compare(self.device, node.value, expected)
                taken += node.value
            if node.host_value is not None:
                self._compare(self.host, node.host_value, expected)
                on_host += node.host_value
        for node in self.core.tree.logical.freed:
            taken += node.value or []
        for task in self.tasks:
            row = task.req.row  # type: ignore[attr-defined]
            self._compare(self.device, row[: task.computed], self._stamps(task))
            taken += row[task.req.cache_protected_len :]
        assert sorted(taken) == list(range(self.device.size)), "a slot in two places, or in none"
        assert sorted(on_host) == list(range(self.host.size)), "a host slot in two, or in none"

    def _stamps(self, task: Task) -> list[int]:
        return stamps(task.plain, task.tokens[: task.computed])

    def _expected(self, node: Node) -> list[int]:
        tokens, walker = array("q"), node
        while walker.parent is not None:
            tokens = walker.key.token_ids + tokens
            walker = walker.parent
        extra = node.key.extra_key
        plain = extra.extra_key if node.owner else extra
        return stamps(plain, tokens)[len(tokens) - len(node.key) :]

    @staticmethod
    def _compare(pool: Pool, slots: Slots, expected: list[int]) -> None:
        assert [pool.content[slot] for slot in slots] == expected, "KV of other tokens"
