"""Preempt a prompt that has begun, for a user who was served less.

Upstream computes a prompt that is longer than a step to its end before anybody else's, and
looks at nobody after a request that did not fit, until one that runs has ended. Under a fair
policy a prompt that has begun goes back into the queue for one that needs less, of a user
who was served less; what is computed of it lies in the cache. While nobody waits it takes
smaller steps, so that whoever comes need not wait for a full one. And whoever comes is looked
at.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from sglang.srt.mem_cache.common import release_kv_cache
from sglang.srt.tenancy.schedule.fair_policy import FairPolicy

if TYPE_CHECKING:
    from sglang.srt.managers.schedule_batch import Req

# Of a step, what a prompt that takes several gets while it is the only one.
PART = 4

Plan = tuple[Any, Any]  # the batch to compute, or None; the running batch


def install() -> None:
    """Hook in through upstream's registry, as ``scheduler_handler.install``."""
    from sglang.srt.plugins.hook_registry import HookRegistry, HookSource, HookType

    HookRegistry.register(
        "sglang.srt.managers.scheduler.Scheduler._get_new_batch_prefill_raw",
        _next_prefill,
        HookType.AROUND,
        source=HookSource("tenancy", "sglang"),
    )


def _next_prefill(original: Callable[..., Plan], scheduler: Any, *args: Any, **more: Any) -> Plan:
    def release(req: Req) -> None:
        release_kv_cache(req, scheduler.tree_cache, is_insert=False)

    return next_prefill(original, scheduler, *args, release=release, **more)


def next_prefill(
    original: Callable[..., Plan],
    scheduler: Any,
    *args: Any,
    running_batch: Any,
    release: Callable[[Req], None],
    **more: Any,
) -> Plan:
    """Wrap ``Scheduler._get_new_batch_prefill_raw``. ``release``: frees a request's slots."""
    policy = scheduler.policy
    plan = partial(original, scheduler, *args, running_batch=running_batch, **more)
    if not isinstance(policy, FairPolicy):
        return plan()
    waiting = scheduler.waiting_queue
    if running_batch.batch_is_full and policy.has_newcomers(waiting):
        running_batch.batch_is_full = False
    begun: Req | None = scheduler.chunked_req
    if begun is None and running_batch.batch_is_full:
        return plan()  # nobody is looked at
    try:
        if begun is not None and _can_wait(begun) and policy.preempts(waiting, begun):
            scheduler.chunked_req = None
            _requeue(begun, release)
            waiting.append(begun)
            with policy.excluding(begun):
                return plan()
        with _smaller_step(scheduler, policy):
            return plan()
    finally:
        policy.close()


@contextmanager
def _smaller_step(scheduler: Any, policy: FairPolicy) -> Iterator[None]:
    """Choose a smaller step where one long prompt is all there is, and other users may come."""
    full: int | None = scheduler.chunked_prefill_size
    here = [*scheduler.waiting_queue[:2], *filter(None, [scheduler.chunked_req])]
    if (
        full
        and len(here) == 1
        and policy.admitted_others(here[0])
        and policy.takes_more_than(here[0], 2 * full)
    ):
        scheduler.chunked_prefill_size = _part(full, scheduler)
    try:
        yield
    finally:
        scheduler.chunked_prefill_size = full


def _part(full: int, scheduler: Any) -> int:
    """Round to whole pages, and to tiles where a prompt may be cut at nothing else: with less
    it would never begin."""
    unit: int = scheduler.truncation_align_size or scheduler.page_size
    return min(full, max(unit, full // PART // unit * unit))


def _can_wait(req: Req) -> bool:
    """Tell whether nothing is lost: what is computed lies in the cache, and nowhere else."""
    computed = len(req.prefix_indices)
    return req.cache_protected_len == computed and not req.return_logprob and req.session is None


def _requeue(req: Req, release: Callable[[Req], None]) -> None:
    """Requeue it as if it had never been taken out.

    Chunks whose results are still to come in are counted on, or the last chunk's would not be told
    from theirs. It waits from now on: upstream ends what waits for too long, and this was computed
    meanwhile.
    """
    launched, retractions = req.inflight_middle_chunks, req.retraction_count
    release(req)
    req.reset_for_retract()
    req.inflight_middle_chunks, req.is_retracted = launched, False
    req.retraction_count = retractions
    req.time_stats.set_wait_queue_entry_time()
