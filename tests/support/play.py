"""A play: a list of steps, done by an engine and followed by the model.

A step is a tuple of a name and small integers, so that a list of them can be made at random,
shortened, and played again on another tree.
"""

from __future__ import annotations

import random
from array import array
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from sglang.srt.managers.schedule_batch import Req
from sglang.srt.tenancy.cache.core import report
from sglang.srt.tenancy.cache.core.elsewhere import Elsewhere, HashedPrefix
from sglang.srt.tenancy.cache.core.quota import CacheShares
from sglang.srt.tenancy.namespace import stays_private
from sglang.srt.tenancy.user_id import SHARED_ANONYMOUS, account_name
from support.engine import LONGEST, Engine, Setting, Task
from support.model import NOBODY, Model, ModelError, Place

# Of a request, before the tree hears of it: tokens computed, tokens that are the tree's, whether
# it may insert, and how many were counted (None: it was not admitted yet).
Before = tuple[int, int, bool, int | None]

Step = tuple[Any, ...]

# The last two have no name: those who share one account, and those who leave nothing.
USERS = ("ann", "ben", "cyn", SHARED_ANONYMOUS, None)
EXTRA_KEYS = (None, None, None, "lora")
SCOPES = (None, None, None, None, None, "private", "none")
CHUNKS = (LONGEST, LONGEST, 12, 32)
UNIT = {1: 3, 4: 2, 16: 8, 64: 32}  # tokens of one symbol: some of them end within a page
STEMS = ((0,) * 14, (0, 0, 0, 1, 1, 0, 1, 0, 0, 1, 1, 0, 1, 0), (0, 1, 1, 1, 0, 0, 0, 0, 1))
PREFIXES = ((0, 4), (0, 9), (1, 5), (1, 8), (2, 3))  # stem and symbols of what gets published
MOST_TASKS = 6
MOST_JUDGED = 12  # prompts of which a verdict may come yet
SHARES = (
    None,
    None,
    CacheShares({"ann": 0.02}),
    CacheShares({"ann": 0.3, "ben": 1.0}, default=0.05),
)

IDLE_TTLS = (None, 2.0, 5.0)  # in the seconds of "idle"

# What is done how often, and the numbers that a step of this name has.
SPEC = (len(USERS), len(EXTRA_KEYS), len(SCOPES), 7, 15, len(CHUNKS), 3)
STEPS: dict[str, tuple[int, tuple[int, ...]]] = {
    "start": (12, SPEC),
    "serve": (18, SPEC),
    "peek": (5, SPEC),
    "step": (18, (MOST_TASKS, 2)),
    "decode": (8, (MOST_TASKS, 12, 2)),
    "finish": (12, (MOST_TASKS,)),
    "abort": (3, (MOST_TASKS,)),
    "retract": (4, (MOST_TASKS,)),
    "land": (12, (4, 2)),
    "publish": (2, (len(PREFIXES),)),
    "withdraw": (2, (len(PREFIXES),)),
    "erase": (2, (len(USERS), 2)),
    "flush": (2, ()),
    "hear": (6, (len(STEMS), 15, len(EXTRA_KEYS), 4)),
    "tell": (3, ()),
    "verdict": (14, (MOST_JUDGED, 16, 3)),
    "launch": (10, ()),
    "process": (10, ()),
    "fetch": (8, SPEC),
    "settle": (6, (MOST_TASKS,)),
    "store": (10, (3, 3)),
    "attach": (4, ()),
    "detach": (2, ()),
    "evict_and_reattach": (4, (len(PREFIXES), len(USERS))),
    "evict": (12, (60,)),
    "evict_host": (8, (60,)),
    "gather": (8, SPEC),
    "evict_and_return": (4, SPEC),
    "evict_and_fetch": (6, SPEC),
    "evict_and_judge": (6, SPEC),
    "idle": (4, (4,)),
}


def random_steps(rng: random.Random, number: int, *, evictions: bool) -> list[Step]:
    names = [name for name in STEPS if evictions or not name.startswith("evict")]
    chosen = rng.choices(names, [STEPS[name][0] for name in names], k=number)
    steps = []
    for name in chosen:
        step: Step = (name, *map(rng.randrange, STEPS[name][1]))
        if STEPS[name][1] is SPEC:  # symbols behind the common beginning
            step += (tuple(rng.choices((0, 1), k=rng.randrange(5))),)
        steps.append(step)
    return steps


# Device tokens that are too few for all tasks: everything is evicted, nothing gets stuck.
TIGHT = {1: (240, 480), 4: (160, 320), 16: (512, 1024), 64: (1536, 2560)}

PAGES = (1, 4, 16, 64)
DETECTORS = ("off-trust-all",) * 4 + ("rules",) * 4 + ("none",)
POLICIES = ("write_through", "write_through", "write_through_selective")


def random_play(seed: int, steps: int) -> tuple[Setting, list[Step]]:
    """Any kind of engine, and that many steps for it: always the same for one seed."""
    rng = random.Random(seed)
    evictions = rng.random() < 0.6
    page = rng.choice(PAGES)
    host = rng.random() < 0.7
    setting = Setting(
        page_size=page,
        host=host,
        overlap=rng.random() < 0.5,
        storage=host and rng.random() < 0.5,
        prefetch_policy=rng.choice(("best_effort", "wait_complete")),
        mode=rng.choice(("selective",) * 6 + ("isolated", "shared")),
        public_users=rng.choice((2, 3)),
        epoch_requests=rng.choice((4, 8, 1024)),
        rdr_threshold=rng.choice((0.0, 0.6, 0.8)),
        rdr_min_hits=rng.choice((3, 5)),
        detector=rng.choice(DETECTORS),
        write_policy=rng.choice(POLICIES),
        shares=rng.choice(SHARES),
        idle_ttl=rng.choice(IDLE_TTLS),
        promotion=rng.choice(("count", "count", "count", "dp")),
        dp_window=rng.choice((4, 12)),
        dp_votes=rng.choice((1, 2)),
        dp_epsilon=2.0,
        dp_delta=rng.choice((0.5, 1.0)),
    )
    if evictions:
        tight = rng.choice(TIGHT[page])
        setting = replace(setting, device_tokens=tight, host_ratio=rng.choice((1.3, 3.0)))
    return setting, random_steps(rng, steps, evictions=evictions)


class Play:
    """One engine, one model, and their agreement after each step.

    ``engine``: another one than the real caches.
    """

    def __init__(self, setting: Setting, engine: Any = None):
        self.setting = setting
        self.engine = engine or Engine(setting)
        self.model = Model(setting)
        self.unit = UNIT[setting.page_size]
        self.history: list[array[int]] = []
        self.unjudged: list[tuple[str, str | None, array[int]]] = []
        self.launched = False  # a batch, after which no results were looked at
        self.fetched = 0  # pages
        self.late = 0  # verdicts that made something public that the device had not
        self.told = 0  # prefixes, to other replicas
        self.digests: list[str] = []
        self.steps = 0
        self.evictions = 0
        self.over_share = 0  # tokens
        self._evictions_seen = 0
        self._demotions_seen = 0
        self.seconds = 0
        self.used: dict[str, int] = {}  # user -> when the tree last heard of a request of theirs
        self.engine.cache.tick(self.seconds)
        for name in ("evict", "evict_host"):
            self._watch(name)
        self._watch_shares()
        self._attach()

    def _watch_shares(self) -> None:
        core = self.engine.cache.core
        enforce = core.quota.enforce

        def watched() -> None:
            before = core.counts["tokens_over_share"]
            enforce()
            taken = core.counts["tokens_over_share"] - before
            self.evictions += taken > 0
            self.over_share += taken

        core.quota.enforce = watched

    def _watch(self, name: str) -> None:
        """The model must know when something may be missing."""
        cache = self.engine.cache
        evict = getattr(cache, name, None)
        if evict is None:
            return

        def watched(*args: Any) -> Any:
            self.evictions += 1
            return evict(*args)

        setattr(cache, name, watched)

    def run(self, steps: Sequence[Step]) -> None:
        """Do the steps, then end everything and look for what is left."""
        for step in steps:
            self.do(step)
        self.end()

    def do(self, step: Step) -> None:
        getattr(self, "_" + step[0])(*step[1:])
        self.steps += 1
        self._agree()
        self.engine.check()
        self.digests.append(self.engine.cache.digest())

    def end(self) -> None:
        self._end_all()
        self.engine.drain()
        if self.engine.storage is not None:
            self.engine.storage.drop()

    def _end_all(self) -> None:
        for task in list(self.engine.tasks):
            self._end(task, keep=task.running and task.decoding)
            self._agree()

    @property
    def _evicted(self) -> bool:
        """Whether something may be missing since model and tree were last compared."""
        return self.evictions > self._evictions_seen

    def _agree(self) -> None:
        self.model.compare(self.engine.pages(), evicted=self._evicted)
        self._evictions_seen = self.evictions

    # Requests

    def _task(
        self,
        user: int,
        extra: int,
        scope: int,
        base: int,
        cut: int,
        chunk: int,
        ragged: int,
        tail: Sequence[int],
    ) -> Task:
        if base >= len(STEMS) and self.history:
            start = self.history[(base + cut) % len(self.history)]
        else:
            start = self._spell(STEMS[base % len(STEMS)][:cut])
        prompt = (start + self._spell(tail) + array("q", [9] * ragged))[: LONGEST // 2]
        prompt = prompt or array("q", [0])
        return self.engine.new_task(
            USERS[user], prompt, EXTRA_KEYS[extra], SCOPES[scope], CHUNKS[chunk]
        )

    def _spell(self, symbols: Sequence[int]) -> array[int]:
        return array("q", [symbol for symbol in symbols for _ in range(self.unit)])

    def _ask(self, *spec: Any) -> Task:
        task = self._task(*spec)
        self._remember(task)
        return task

    def _remember(self, task: Task) -> None:
        """A verdict on what it has said so far may come at any time, or never."""
        self.unjudged.append((task.user, task.plain, task.tokens))
        del self.unjudged[:-MOST_JUDGED]

    def _start(self, *spec: Any) -> None:
        if len(self.engine.tasks) < MOST_TASKS:
            self._admit(self._ask(*spec))

    def _serve(self, *spec: Any) -> None:
        """A whole request, with nobody between its steps."""
        if len(self.engine.tasks) == MOST_TASKS:
            return
        task = self._ask(*spec)
        self._admit(task)
        while task.running and not task.decoding and self._advance(task, 0):
            pass
        self._end(task, keep=task.running and task.decoding)

    def _gather(self, _: int, extra: int, scope: int, stem: int, cut: int, *more: Any) -> None:
        """Each user asks in two ways for what begins alike, and the window ends."""
        if not self._votes or len(self.engine.tasks) == MOST_TASKS:
            return
        for user in range(len(USERS)):
            for tail in ((0, 0), (1, 1)):
                self._serve(user, extra, 0, stem, cut + 1, 0, 0, tail)
                if self.setting.detector == "rules":
                    owner, plain, tokens = self.unjudged[-1]
                    self._judge(owner, plain, tokens, len(tokens), None)
                self._agree()
        for _ in range(-self.model.admitted % self.setting.dp_window):
            self._serve(0, 0, 0, 2, 1, 0, 0, ())
            self._agree()

    def _peek(self, *spec: Any) -> None:
        task = self._task(*spec)
        self._look(task)
        self.engine.tasks.remove(task)

    def _look(self, task: Task) -> None:
        found = self.engine.peek(task)
        asked = task.tokens[:-1]
        expected = self.model.visible(task.user, task.plain, asked)
        if found != expected:
            raise ModelError(f"{task.user} finds {found} tokens, not {expected}")

    def _admit(self, task: Task) -> None:
        if not self._settle_fetch(task):
            return
        self._look(task)
        self.engine.admit(task)
        self._agree()

    def _step(self, which: int, token: int) -> None:
        task = self._chosen(which)
        if task is None:
            return
        if task.running:
            self._advance(task, token)
        else:
            self._admit(task)

    def _decode(self, which: int, number: int, token: int) -> None:
        for _ in range(number + 1):
            task = self._chosen(which)
            if task is None or not task.running:
                return
            self._advance(task, token)
            self._agree()

    def _advance(self, task: Task, token: int) -> bool:
        """One result of the model; False where there is no room for the next."""
        if len(task.tokens) >= LONGEST - 1:
            return False
        left = len(task.req.full_untruncated_fill_ids) - task.computed
        chunked = left > 0 and not task.decoding
        needed = 1 if task.decoding else min(left, task.chunk)
        if needed and not self.engine.has_room(needed):
            return False
        if task.decoding:
            self.engine.step(task, token)
            return True
        before = self._before(task, task.computed)
        self.engine.step(task, token)
        self._follow(task, before, task_tokens(task, before))
        if not chunked:
            self._agree()
        return True

    def _finish(self, which: int) -> None:
        task = self._chosen(which)
        if task is not None and task.running and task.decoding:
            self._end(task, keep=True)

    def _abort(self, which: int) -> None:
        task = self._chosen(which)
        if task is not None:
            self._end(task, keep=task.running and task.decoding)

    def _end(self, task: Task, *, keep: bool) -> None:
        if not keep:
            self.engine.abort(task)
            return
        before = self._before(task, task.computed)
        self.engine.finish(task)
        self._follow(task, before, task_tokens(task, before))
        self._remember(task)
        self.history.append(task.tokens)
        del self.history[:-6]

    def _retract(self, which: int) -> None:
        task = self._chosen(which)
        if task is not None and task.running and task.decoding:
            self.engine.retract(task)

    def _chosen(self, which: int) -> Task | None:
        tasks = self.engine.tasks
        return tasks[which % len(tasks)] if tasks else None

    # Verdicts, batches that run ahead

    def _verdict(self, which: int, cut: int, sensitive: int) -> None:
        """A detector's word on any of the last prompts: late, twice, or on what is gone."""
        if self.setting.detector != "rules" or not self.unjudged:
            return
        user, plain, tokens = self.unjudged[which % len(self.unjudged)]
        harmless = len(tokens) * (cut + 1) // 16
        found = min(harmless, len(tokens) - 1) if sensitive == 0 else None
        self._judge(user, plain, tokens, harmless, found)

    def _judge(
        self, user: str, plain: str | None, tokens: array[int], harmless: int, found: int | None
    ) -> None:
        promotions = self.engine.cache.core.counts.get("promotions", 0)
        on_device = self.engine.on_device(user, tokens, plain)
        self.engine.judge(user, plain, tokens, harmless, found)
        self.model.judge(user, plain, tokens, harmless, found)
        if self.engine.cache.core.counts.get("promotions", 0) > promotions:
            self.late += on_device < harmless // self.setting.page_size * self.setting.page_size

    def _launch(self) -> None:
        if self.setting.overlap and not self.launched:
            self.engine.launch()
            self.launched = True

    def _process(self) -> None:
        if self.launched:
            self.engine.processed()
            self.launched = False

    # Storage

    def _fetch(self, *spec: Any) -> None:
        """A request that waits for storage."""
        if self.engine.storage is not None and len(self.engine.tasks) < MOST_TASKS:
            self.engine.fetch(self._ask(*spec))

    def _settle(self, which: int) -> None:
        task = self._chosen(which)
        if task is not None and not task.running:
            self._settle_fetch(task)

    def _settle_fetch(self, task: Task) -> bool:
        if self.engine.storage is None:
            return True
        self._agree()
        before = self.engine.pages()
        if not self.engine.settle_fetch(task):
            return False
        new = {
            place: seen
            for place, seen in self.engine.pages().items()
            if place not in before or not seen.owners.keys() <= before[place].owners.keys()
        }
        self.fetched += len(new)
        if new:
            self.used[task.user] = self.seconds
        self.model.fetch(task.user, task.plain, task.tokens, new)
        return True

    def _store(self, backups: int, fetches: int) -> None:
        if self.engine.storage is not None:
            self.engine.storage.land(backups * 3, fetches)
            self.engine.land(0, 0)

    def _attach(self) -> None:
        storage = self.engine.storage
        if storage is not None and not storage.attached:
            self._end_all()
            done, message = storage.attach()
            assert done, message

    def _detach(self) -> None:
        storage = self.engine.storage
        if storage is not None and storage.attached:
            self._end_all()  # upstream wants no request
            storage.land(0, 99)
            storage.detach()

    def _evict_and_reattach(self, which: int, user: int) -> None:
        """What is public ceases to be while nothing has a name; then somebody else asks storage
        for what its owner goes on to write."""
        if self.engine.storage is None or not self.engine.storage.attached:
            return
        stem, symbols = PREFIXES[which]
        self._publish(which)
        self._serve(user, 0, 0, stem, symbols, 0, 0, ())
        self._detach()
        self._withdraw(which)
        self._attach()
        longer = (0, 0, stem, LONGEST, 0, 0, ())
        self._serve(user, *longer)
        self._forget_to_storage()
        self._fetch((user + 1) % len(USERS), *longer)
        self._store(0, 0)
        self._store(0, 1)
        self._settle(len(self.engine.tasks) - 1)

    def _forget_to_storage(self) -> None:
        """Only storage has what nobody uses."""
        self._land(99, 99)
        self._store(99, 99)
        self._evict(self.setting.device_tokens)
        self._evict_host(self.setting.device_tokens * 10)
        self._agree()

    # What the model makes of it

    def _before(self, task: Task, computed: int) -> Before:
        """Tokens computed, tokens that are the tree's, whether it may insert, and how many were
        counted: before the tree hears of the request."""
        req = task.req
        protected = req.cache_protected_len
        visible = self.model.visible(task.user, task.plain, task.tokens[:computed])
        may_insert = req.cache_scope != "none" and visible >= protected
        return computed, protected, may_insert, req.counted_to

    def _follow(self, task: Task, before: Before, tokens: array[int]) -> None:
        _, protected, may_insert, counted = before
        model, req = self.model, task.req
        self.used[account_name(task.user)] = self.seconds
        kept_out = req.cache_scope == "none"
        if may_insert and kept_out and not self.evictions:
            raise ModelError("a request that sees its prefix must be able to insert")
        first_time = counted is None
        if kept_out:  # it may have been retracted, and have found more than before
            tokens = tokens[:protected]
        if not may_insert and not kept_out:
            raise ModelError("a request that lost sight of its prefix must keep out")
        if not kept_out:
            model.insert(task.user, task.plain, tokens, no_promote=stays_private(req))
        model.count(task.user, task.plain, tokens, counted, int(not task.returned))
        if not kept_out and not stays_private(req):
            promoted = model.promote(task.user, task.plain, tokens)
            if self._votes and not promoted:
                model.vote(task.user, task.plain, tokens)
        if first_time and self._votes:
            self._follow_votes()
        elif first_time and self.setting.mode == "selective":
            self._follow_demotion(task, tokens)

    @property
    def _votes(self) -> bool:
        return self.setting.mode == "selective" and self.setting.promotion == "dp"

    def _follow_votes(self) -> None:
        budget = self.engine.cache.core.sharing.memory.budget

        def threshold(place: Place, window: int) -> int:
            return int(budget.threshold_of(budget.name(place[0], array("q", place[1])), window))

        windows = self.model.windows
        chosen = self.model.end_window(threshold)
        if self.evictions and self.model.windows > windows:
            self.model.publish_seen(self.engine.pages())
        elif not self.evictions:
            for place in chosen:
                self.model.publish_voted(place)

    def _follow_demotion(self, task: Task, tokens: array[int]) -> None:
        may, must = self.model.suspects(task.plain, tokens)
        demotions = self.engine.cache.core.counts.get("demotions", 0)
        demoted, self._demotions_seen = demotions > self._demotions_seen, demotions
        if not may:
            return
        now = self.engine.pages()
        for place in sorted(may, key=lambda place: len(place[1])):
            seen = now.get(place)
            public = self.model.pages[place].public
            may_be_gone = self._evicted or (public is not None and NOBODY in public.candidates)
            freed = demoted and seen is None and may_be_gone
            if freed or (seen is not None and not seen.public):
                self.model.demoted(place, now, ban=True, evicted=self._evicted)
                return
            if place in must and seen is not None:
                raise ModelError("a probed page must become private")

    # Other replicas

    def _hear(self, stem: int, symbols: int, extra: int, demoted: int) -> None:
        """Another replica has made a prefix public, or private again."""
        tokens = self._spell(STEMS[stem][:symbols])
        page, plain = self.setting.page_size, EXTRA_KEYS[extra]
        length = len(tokens) // page * page
        if not length:
            return
        heard = Elsewhere(page).hashes(plain, tokens, [length])
        public, private = ([], heard) if demoted == 0 else (heard, [])
        self.engine.cache.core.sharing.memory.elsewhere.learn(public, private)
        self.model.hear(plain, tokens[:length], demoted=demoted == 0)

    def _tell(self) -> None:
        """What other replicas are told is what is public here, as far as nothing is against it."""
        if self.setting.mode != "selective":
            return  # nobody may ask
        elsewhere = Elsewhere(self.setting.page_size)

        def hashed(places: set[Place]) -> set[HashedPrefix]:
            return {
                elsewhere.hashes(plain, array("q", tokens), [len(tokens)])[0]
                for plain, tokens in places
            }

        may, must = self.model.to_tell()
        told = report.public_hashes(self.engine.cache.core, 1024)
        public = set(told["public"])
        if len(public) < len(told["public"]):
            raise ModelError("a prefix is told twice")
        if not public <= hashed(may):
            raise ModelError("other replicas are told of what is not public")
        if not hashed(must) <= public:
            raise ModelError("other replicas are not told of what is public")
        if set(told["demoted"]) != hashed(self.model.demoted_here):
            raise ModelError("other replicas are told of other demotions")
        self.told += len(public)

    # Transfers, evictions, operators

    def _land(self, writes: int, loads: int) -> None:
        self.engine.land(writes, loads)

    def _evict(self, tokens: int) -> None:
        self.engine.evict(tokens + 1)

    def _evict_and_return(self, *spec: Any) -> None:
        """A prompt that the device has forgotten, and the host has not."""
        self._serve(*spec)
        self._land(99, 99)
        self._evict(self.setting.device_tokens)
        self._agree()
        self._serve(*spec)

    def _evict_and_judge(self, user: int, *spec: Any) -> None:
        """A verdict on what the device has forgotten, while others run on the same tokens."""
        if self.setting.detector != "rules" or len(self.engine.tasks) > MOST_TASKS - 3:
            return
        self._serve(user, *spec)
        if not self.unjudged:
            return
        owner, plain, tokens = self.unjudged[-1]
        self._land(99, 99)
        self._evict(self.setting.device_tokens)
        self._agree()
        for other in range(1, self.setting.public_users):
            self._start((user + other) % len(USERS), *spec)
            self._step(len(self.engine.tasks) - 1, 0)
            self._agree()
        self._judge(owner, plain, tokens, len(tokens), None)

    def _evict_and_fetch(self, *spec: Any) -> None:
        """A prompt that only storage still has, and that is on its way from there."""
        if self.engine.storage is None:
            return
        self._serve(*spec)
        self._forget_to_storage()
        self._fetch(*spec)
        self._store(0, 0)

    def _evict_host(self, tokens: int) -> None:
        self.engine.evict_host(tokens + 1)

    def _prefix(self, which: int) -> array[int]:
        stem, symbols = PREFIXES[which]
        return self._spell(STEMS[stem][:symbols])

    def _publish(self, which: int) -> None:
        prefix = self._prefix(which)
        if len(prefix) >= self.setting.page_size:
            self.engine.cache.publish(prefix)
            self.model.publish(prefix)

    def _withdraw(self, which: int) -> None:
        prefix = self._prefix(which)
        whole = tuple(prefix[: len(prefix) // self.setting.page_size * self.setting.page_size])
        if whole not in self.model.published:
            return
        self.engine.cache.withdraw(prefix)
        tops: list[Place] = self.model.withdraw(prefix)
        now = self.engine.pages()
        for top in tops:
            self.model.demoted(top, now, ban=False, evicted=self._evicted)
        self._demotions_seen = self.engine.cache.core.counts.get("demotions", 0)

    def _erase(self, user: int, with_requests: int) -> None:
        """``with_requests``: as the scheduler does; without, the tree must cope with them."""
        name = account_name(USERS[user])
        self.engine.cache.erase(name, self._requests() if with_requests else ())
        self.model.erase(name)
        self.used.pop(name, None)

    def _requests(self) -> list[Req]:
        return [task.req for task in self.engine.tasks]

    def _idle(self, seconds: int) -> None:
        """Time passes; 0: a tick comes twice."""
        self.seconds += seconds
        self.engine.cache.tick(self.seconds, self._requests())
        ttl, busy = self.setting.idle_ttl, {task.user for task in self.engine.tasks}
        if ttl is None or not seconds:
            return
        for user, last in list(self.used.items()):
            if last + ttl >= self.seconds:
                continue
            if user in busy:
                self.used[user] = self.seconds
            else:
                del self.used[user]
                self.model.erase(user)

    def _flush(self) -> None:
        if not any(task.running for task in self.engine.tasks):
            self.engine.flush()
            self.model.flush()
            self._watch_shares()


def task_tokens(task: Task, before: Before) -> array[int]:
    """What the request has offered to the tree."""
    return task.tokens[: before[0]]
