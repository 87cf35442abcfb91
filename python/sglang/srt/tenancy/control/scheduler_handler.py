"""Carry out control requests on a scheduler, and answer them.

Runs in the scheduler's loop between two batches, on every rank, in one order. So it decides by
the request's content and the tree alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from sglang.srt.mem_cache.radix_cache import RadixKey
from sglang.srt.tenancy.cache.core import report
from sglang.srt.tenancy.config import TenantConfig
from sglang.srt.tenancy.control.messages import (
    ClearResponses,
    Configure,
    Erase,
    LearnHashes,
    Limited,
    ListHashes,
    ListPrefixes,
    Live,
    Publish,
    Refused,
    ResponsesCleared,
    ScanResult,
    SetUser,
    Stats,
    TenantControl,
    TenantControlReply,
    Tick,
    Tree,
    Usage,
    UserErased,
    UserSet,
    Withdraw,
    refused,
)
from sglang.srt.tenancy.control.prefix_table import PrefixTable
from sglang.srt.tenancy.control.scheduler_access import NoScheduler, SchedulerAccess
from sglang.srt.tenancy.extra_keys import qualified
from sglang.srt.tenancy.namespace import Namespace

Answer = dict[str, Any]

MOST_OVERRIDES = 100_000  # users who have settings made at run time


class Control:
    """Carries out control requests on one rank's tree.

    ``cache``: a TenantRadixCache or TenantHiRadixCache. ``rank``: its data-parallel rank.
    ``qualify``: what the scheduler still does to a request's ``extra_key``. ``scheduler``: the
    rest of what requests reach. ``config``: by which the cache was made.
    """

    def __init__(
        self,
        cache: Any,
        rank: int = 0,
        qualify: Callable[[Any], None] = lambda request: None,
        scheduler: SchedulerAccess | None = None,
        config: TenantConfig | None = None,
    ):
        self._cache = cache
        self._rank = rank
        self._qualify = qualify
        self._scheduler = scheduler or NoScheduler()
        self._config = config or TenantConfig()
        # Where each HTTP process listens: all have sent a request when they started. None is the
        # address of the only one.
        self._http_processes: dict[str | None, None] = {}
        self.prefixes = PrefixTable(
            cache.page_size,
            publish=lambda tokens: cache.publish(tokens),
            withdraw=lambda tokens: cache.withdraw(tokens),
        )
        self._watched = 0  # times that a live page was told of this tree
        self._handlers: dict[type, Callable[[Any], Answer]] = {
            Publish: lambda request: self.prefixes.add(request.prefix),
            Withdraw: lambda request: self.prefixes.remove(request.name),
            Configure: self._configure,
            SetUser: self._set_user,
            ListPrefixes: lambda request: {"public_prefixes": self.prefixes.list()},
            ListHashes: lambda request: report.public_hashes(cache.core, request.most),
            LearnHashes: self._learn_hashes,
            Stats: self._stats,
            Usage: self._usage,
            Limited: self._limited,
            Tree: lambda request: report.tree(cache.core, request.depth, request.nodes),
            Live: self._live,
            ScanResult: self._scan_result,
            Erase: self._erase,
            ClearResponses: self._clear_responses,
            Tick: self._tick,
        }

    def __call__(self, message: TenantControl) -> TenantControlReply:
        """The reply for the process that sent the request. Only what is refused before anything
        changed is answered; any other error ends the scheduler, as it does upstream."""
        self._http_processes[message.http_worker_ipc] = None
        try:
            answer, refusal = self._handlers[type(message.request)](message.request), None
        except Refused as error:
            answer, refusal = {}, error.refusal
        return TenantControlReply(rid=message.rid, rank=self._rank, answer=answer, refusal=refusal)

    def _configure(self, request: Configure) -> Answer:
        """Apply all of it, or raise Refused before anything has changed. The answer tells what was
        set at run time."""
        config = TenantConfig(users=request.users, public_weight=request.public_weight)
        config = config.with_overrides(self._config.overrides)
        self._check(config, "--tenant-config")
        answer = self.prefixes.configure(request.prefixes)
        self._divide_by(config)
        return answer | {"overrides": config.overrides}

    def _set_user(self, request: SetUser) -> Answer:
        overrides = self._config.overrides
        if request.user not in overrides and len(overrides) >= MOST_OVERRIDES:
            raise refused(
                409, "user_id", f"{MOST_OVERRIDES} users have settings; name users in the file"
            )
        config = self._config.overridden(request.user, request.settings)
        self._check(config, "cache_share")
        self._divide_by(config)
        if self._rank == 0:
            for address in self._http_processes:
                notice = UserSet(
                    user=request.user, settings=request.settings, http_worker_ipc=address
                )
                self._scheduler.send(notice)
        return {}

    def _check(self, config: TenantConfig, param: str) -> None:
        """Raise Refused for a share that is less than a page."""
        try:
            self._cache.core.quota.check(config.cache_shares)
        except ValueError as error:
            raise refused(400, param, str(error).removeprefix("--tenant-config: ")) from None

    def _divide_by(self, config: TenantConfig) -> None:
        cache, weights, shares = self._cache, config.weights, config.cache_shares
        if (weights, shares or None) != (cache.core.quota.weights, cache.core.quota.shares):
            cache.redivide(weights, shares)
            self._scheduler.reweigh(weights)
        self._config = config

    def _learn_hashes(self, request: LearnHashes) -> Answer:
        elsewhere = self._cache.core.sharing.memory.elsewhere
        public, demoted = elsewhere.learn(request.public, request.demoted)
        return {"public": public, "demoted": demoted}

    def _stats(self, request: Stats) -> Answer:
        totals = report.stats(self._cache.core, request.owners)
        return totals | {"public_prefixes": len(self.prefixes), "watched": self._watched}

    def _live(self, request: Live) -> Answer:
        # No decision rests on this time: it says how often the question may be asked.
        started = time.perf_counter()
        core = self._cache.core
        seen = request.seen[self._rank] if self._rank < len(request.seen) else 0
        self._watched += 1
        answer: Answer = {
            "stats": self._stats(Stats(0)),
            "held": report.held(core, request.owners),
            "queue": self._scheduler.queue(request.users),
            "changes": report.changes(core, seen),
            "tree": report.rows(core, request.nodes) if request.nodes else None,
        }
        return answer | {"seconds": time.perf_counter() - started}

    def _usage(self, request: Usage) -> Answer:
        users = report.users(self._cache.core, self._cache.usage)
        weights = self._cache.core.quota.weights
        for entry in users:
            if entry["user"] is not None:
                entry["weight"] = weights.get(entry["user"], 1.0)
                entry.update(self._scheduler.service_of(entry["user"]))
        return {"users": users}

    def _limited(self, request: Limited) -> Answer:
        if self._rank == 0:  # every replica is told, and they are added up
            for user, counts in request.users.items():
                self._cache.usage.limit(user, counts)
        return {}

    def _scan_result(self, result: ScanResult) -> Answer:
        # As Req and the scheduler make it for a request.
        request = SimpleNamespace(extra_key=qualified(result.lora_id, result.extra_key))
        self._qualify(request)
        key = RadixKey(result.tokens, Namespace(result.owner, request.extra_key))
        self._cache.apply_scan_result(key, result.harmless, result.sensitive)
        return {}

    def _tick(self, request: Tick) -> Answer:
        self._cache.tick(request.seconds, self._scheduler.requests())
        return {}

    def _erase(self, request: Erase) -> Answer:
        erased = self._cache.erase(request.user, self._scheduler.requests())
        sessions = self._scheduler.close_sessions(request.user)
        for address in self._http_processes:
            self._scheduler.send(UserErased(user=request.user, http_worker_ipc=address))
        return {
            "device": erased.device,
            "host": erased.host,
            "storage": erased.storage,
            "sessions": sessions,
            "not_reached": list(erased.not_reached),
        }

    def _clear_responses(self, request: ClearResponses) -> Answer:
        if self._rank == 0:
            for address in self._http_processes:
                notice = ResponsesCleared(user=request.user, http_worker_ipc=address)
                self._scheduler.send(notice)
        return {}


def install() -> None:
    """Have upstream's dispatcher hand our messages to ``Control``.

    Through upstream's hook registry: each scheduler process applies it before it makes its
    scheduler. Where it did not hold, the first request would end the scheduler, at start-up.
    """
    from sglang.srt.plugins.hook_registry import HookRegistry, HookSource, HookType

    HookRegistry.register(
        "sglang.srt.managers.scheduler.Scheduler.init_request_dispatcher",
        _listen,
        HookType.AFTER,
        source=HookSource("tenancy", "sglang"),
    )


def _listen(_: None, scheduler: Any) -> None:
    from sglang.utils import TypeBasedDispatcher

    if scheduler.server_args.enable_tenant_cache:
        ps = scheduler.ps
        rank = ps.attn_dp_rank if scheduler.server_args.enable_dp_attention else ps.dp_rank
        qualify = scheduler._maybe_namespace_elastic_radix_cache
        access = SchedulerAccess(scheduler)
        zeroizer = scheduler.tree_cache.zeroizer
        if zeroizer is not None:
            zeroizer.forward_stream = scheduler.forward_stream
        config = TenantConfig.of(scheduler.server_args)
        control = Control(scheduler.tree_cache, rank or 0, qualify, access, config)
        scheduler._request_dispatcher += TypeBasedDispatcher([(TenantControl, control)])
