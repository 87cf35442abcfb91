"""Sample one scheduler: its tree, what users took, whom a fair policy serves."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

from sglang.srt.plugins.hook_registry import HookRegistry, HookSource, HookType
from sglang.srt.tenancy.cache.core.node import PUBLIC
from sglang.srt.tenancy.metrics.metric import Metric, MetricWriter, Sample
from sglang.srt.tenancy.schedule import faulty_requests
from sglang.srt.tenancy.schedule.fair_policy import FairPolicy

_PERIOD = 1.0  # seconds
# Of all time, sampling takes at most one part in so many.
_SHARE = 500

_PROMPT = Metric(
    "prompt_tokens_total",
    "Prompt tokens by where they were found (or computed), and whose that was.",
    ("source", "scope"),
)
_REQUESTS = Metric("requests_total", "Requests whose prompt has been computed.")
_OUTPUT = Metric("output_tokens_total", "Tokens of answers that have ended.")
_EVICTED = Metric("evicted_tokens_total", "Tokens evicted from a tier.", ("tier", "scope"))
_HELD = Metric("cached_tokens", "Tokens that a tier holds.", ("tier", "scope"))
_CAPACITY = Metric("cache_capacity_tokens", "Tokens that a tier can hold.", ("tier",))
_OWNERS = Metric("cache_owners", "Users who hold something private on a tier.", ("tier",))
_LOCKED = Metric("locked_tokens", "Device tokens that running requests use, or that wait for them.")
_BLOCKED = Metric("blocked_prefixes", "Prefixes that may not become public.", ("reason",))
_FAULTY = Metric("faulty_requests_total", "Requests that the scheduler could not take in.")
_WAITING = Metric("waiting_users", "Users with a request in the scheduler's queue.")
_SPREAD = Metric(
    "service_spread",
    "vtc, dlpm: service due from the user served most, less that from the one served least, of "
    "those who wait.",
)
_COUNTS = {
    name: Metric(f"{name}_total", text)
    for name, text in {
        "promotions": "Prefixes that became public by use.",
        "demotions": "Public prefixes that became private again.",
        "quarantines": "Public prefixes that were probed, and may not become public for a while.",
        "merges": "Private copies merged into a public prefix.",
        "joins": "Chains of nodes joined to one.",
        "outlived_prefixes": "Requests whose user no longer sees the prefix they run on.",
        "erasures": "Users erased, by operators or the self-test.",
        "expired_users": "Users whose private prefixes were idle for too long.",
        "expired_tokens": "Tokens freed for that.",
        "logical_frees": "Nodes freed while requests read them.",
        "tokens_over_share": "Tokens taken from users who held more than their cache_share.",
        "freed_duplicates": "Device tokens freed by merging.",
    }.items()
}


def install() -> None:
    """Have every scheduler with a tenant cache sample itself. To be called by the registry."""
    scheduler, source = "sglang.srt.managers.scheduler.Scheduler.", HookSource("tenancy", "sglang")
    HookRegistry.register(
        scheduler + "init_request_dispatcher", _start, HookType.AFTER, source=source
    )
    HookRegistry.register(
        scheduler + "process_batch_result", _after_batch, HookType.AFTER, source=source
    )
    HookRegistry.register(scheduler + "on_idle", _when_idle, HookType.BEFORE, source=source)


def _start(_: None, scheduler: Any) -> None:
    reporter = scheduler.metrics_reporter
    if scheduler.server_args.enable_tenant_cache and reporter.current_scheduler_metrics_enabled:
        writer = MetricWriter(scheduler.metrics_collector.labels)

        def sample() -> None:
            writer.write(samples(scheduler))

        sample()  # the first takes long: it imports, and makes files
        scheduler.tenant_sampler = Sampler(sample)


def _after_batch(_: None, scheduler: Any, *args: Any, **kwargs: Any) -> None:
    _when_idle(scheduler)


def _when_idle(scheduler: Any) -> None:
    sampler = getattr(scheduler, "tenant_sampler", None)
    if sampler is not None:
        sampler.sample_if_due()


class Sampler:
    """Samples once a second, and more seldom where that takes long."""

    def __init__(
        self,
        sample: Callable[[], None],
        now: Callable[[], float] = time.monotonic,
        spent: Callable[[], float] = time.thread_time,
    ):
        self._sample = sample
        self._now = now
        self._spent = spent
        self._due = 0.0

    def sample_if_due(self) -> None:
        if self._now() < self._due:
            return
        before = self._spent()
        self._sample()
        # Not what a busy machine gave to others meanwhile: that costs no request anything.
        took = self._spent() - before
        self._due = self._now() + max(_PERIOD, _SHARE * took)


def samples(scheduler: Any) -> Iterator[Sample]:
    """Yield what one scheduler counts now."""
    cache = scheduler.tree_cache
    yield from _usage(cache.usage.total)
    yield from _tree(cache.core)
    yield _FAULTY, (), faulty_requests.counts["not_taken_in"]
    if isinstance(scheduler.policy, FairPolicy):
        yield from _fairness(scheduler.policy)


def _usage(total: Any) -> Iterator[Sample]:
    yield _REQUESTS, (), total.requests
    yield _OUTPUT, (), total.output
    for source, scope, tokens in total.by_scope():
        yield _PROMPT, (source, scope), tokens


def _tree(core: Any) -> Iterator[Sample]:
    for name, metric in _COUNTS.items():
        yield metric, (), core.counts[name]
    yield _LOCKED, (), core.protected_size()
    for name, tier in (("device", core.device), ("host", core.host)):
        if tier is None:
            continue
        sizes = tier.order.sizes
        yield _CAPACITY, (name,), tier.order.capacity
        yield _OWNERS, (name,), sizes.owners()
        yield _HELD, (name, "public"), sizes.get(PUBLIC, 0)
        yield _HELD, (name, "private"), sizes.private
        for scope in ("public", "private"):
            yield _EVICTED, (name, scope), core.counts[f"evicted_{name}_{scope}"]
    blocklist = core.sharing.memory.blocklist
    yield _BLOCKED, ("sensitive",), len(blocklist.sensitive)
    yield _BLOCKED, ("probed",), len(blocklist.quarantined)


def _fairness(policy: FairPolicy) -> Iterator[Sample]:
    due = [user.due for user in policy.tracker.users.values() if user.waiting]
    yield _WAITING, (), len(due)
    yield _SPREAD, (), max(due) - min(due) if due else 0.0
