"""Sample one HTTP process: limits, refusals, the detector, the self-test.

Once a second; the processes' numbers are added up by Prometheus's files. What limits refused, by
user, is told to the schedulers, which count users for all processes.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

from sglang.srt.tenancy.control.messages import Limited
from sglang.srt.tenancy.detect import service as detector
from sglang.srt.tenancy.http import refusal, selftest
from sglang.srt.tenancy.limits import LIMIT_FIELDS
from sglang.srt.tenancy.metrics.metric import Metric, MetricWriter, Sample

if TYPE_CHECKING:
    from sglang.srt.tenancy.control.client import ControlClient
    from sglang.srt.tenancy.flags import TenantOptions
    from sglang.srt.tenancy.http.rate_limiter import RateLimiter
    from sglang.srt.tenancy.http.response_caching import ResponseCaching

_PERIOD = 1.0  # seconds
_LATENCY_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)

_REFUSED = Metric("refused_requests_total", "Requests refused, by HTTP status.", ("status",))
_LIMITED = Metric("limited_requests_total", "Requests answered 429, by limit.", ("limit",))
_ADMITTED = Metric("admitted_requests_total", "Answers that limits let in.")
_RUNNING = Metric("running_answers", "Answers let in and not ended.", mode="livesum")
_WAITING = Metric("queued_answers", "Answers that wait for max_running.", mode="livesum")
_SELF_TEST = Metric("selftest_passed", "1: isolation held when it was last tried.", mode="livemin")
_SCANNING = Metric("detector_up", "1: the detector's process runs.", mode="livemin")
_QUEUED = Metric("detector_queue", "Prompts that wait to be scanned.", mode="livesum")
_VERDICTS = Metric("detector_verdicts_total", "Prompts scanned, by result.", ("verdict",))
_EVENTS = Metric("detector_events_total", "What else happened to prompts.", ("event",))
_CACHED = Metric(
    "response_cache_requests_total", "Requests that the response cache saw.", ("result",)
)
_SAVED = Metric(
    "response_cache_saved_seconds_total", "Seconds of computing that its hits did not need again."
)
_KEPT = Metric("response_cache_entries", "Answers that are kept.")
_KEPT_BYTES = Metric("response_cache_bytes", "Bytes of answers that are kept.")
_DROPPED = Metric("response_cache_dropped_total", "Answers dropped, by reason.", ("reason",))
_STORE_FAILURES = Metric("response_cache_failures_total", "Failures of the store.")
_LATENCY = Metric("detector_latency_seconds", "From a prompt's arrival to its scan result.")

# Shown from the start: what begins with its first event hides that event from rates.
_NO_STATUSES = dict.fromkeys((400, 401, 403, 408, 413, 429), 0)
_NO_LIMITS = dict.fromkeys(("max_connections", *sorted(LIMIT_FIELDS)), 0)

_VERDICT_COUNTS = ("sensitive", "not_sensitive", "without_text")
_EVENT_COUNTS = ("offered", "dropped", "open_dropped", "lost", "forgotten", "crashes", "errors")

_task: asyncio.Task[None] | None = None  # the event loop would not keep it


class ProcessMetrics:
    """One HTTP process's. ``writer``: None without --enable-metrics."""

    def __init__(
        self,
        limiter: RateLimiter,
        client: ControlClient,
        writer: MetricWriter | None,
        caching: ResponseCaching | None,
    ):
        self._limiter = limiter
        self._caching = caching
        self._client = client
        self._writer = writer

    def observe_latency(self) -> Callable[[float], None]:
        """Return what is to be called with the seconds that each scan result took."""
        if self._writer is None:
            return lambda seconds: None
        return self._writer.histogram(_LATENCY, _LATENCY_BUCKETS)

    async def run(self) -> None:
        while True:
            await self.sample()
            await asyncio.sleep(_PERIOD)

    async def sample(self) -> None:
        """Write the metrics, and tell the schedulers whom limits refused."""
        limited = self._limiter.take_limited()
        if limited:
            self._client.tell(Limited(limited))
        if self._writer is not None:
            self._writer.write(samples(self._limiter, detector.stats()))
            if self._caching is not None:
                self._writer.write(await _responses(self._caching))


def start(
    limiter: RateLimiter,
    client: ControlClient,
    options: TenantOptions,
    caching: ResponseCaching | None = None,
) -> ProcessMetrics:
    """Sample this process from now on."""
    global _task
    writer = None
    if getattr(options, "enable_metrics", False):
        writer = MetricWriter({"model_name": getattr(options, "served_model_name", "")})
    metrics = ProcessMetrics(limiter, client, writer, caching)
    _task = asyncio.get_running_loop().create_task(metrics.run())
    return metrics


def samples(limiter: RateLimiter, scans: dict[str, Any] | None) -> Iterator[Sample]:
    """Yield what this process counts now. ``scans``: as ``service.stats``."""
    for status, number in {**_NO_STATUSES, **refusal.statuses}.items():
        yield _REFUSED, (str(status),), number
    for limit, number in {**_NO_LIMITS, **refusal.limits}.items():
        yield _LIMITED, (limit,), number
    yield _ADMITTED, (), limiter.admitted
    yield _RUNNING, (), limiter.running
    yield _WAITING, (), limiter.waiting
    if selftest.passed is not None:
        yield _SELF_TEST, (), float(selftest.passed)
    if scans is not None:
        yield from _detector(scans)


def _detector(scans: dict[str, Any]) -> Iterator[Sample]:
    counts: Counter[str] = Counter(scans["counts"])
    yield _SCANNING, (), float(scans["running"])
    yield _QUEUED, (), scans["queued"] + scans["open"]
    for verdict in _VERDICT_COUNTS:
        yield _VERDICTS, (verdict,), counts[verdict]
    for event in _EVENT_COUNTS:
        yield _EVENTS, (event,), counts[event]


async def _responses(caching: ResponseCaching) -> list[Sample]:
    """Return what the response cache of this process counts, and what its store holds."""
    cache, held = caching.cache, await caching.cache.store.stats()
    # Of memory each process has its own.
    mode: Literal["livesum", "mostrecent"] = "livesum" if caching.kind == "memory" else "mostrecent"
    return [
        *((_CACHED, (result,), number) for result, number in cache.counts.items()),
        (_SAVED, (), cache.seconds_saved),
        (replace(_KEPT, mode=mode), (), held.entries),
        (replace(_KEPT_BYTES, mode=mode), (), held.size),
        (_DROPPED, ("evicted",), held.evicted),
        (_DROPPED, ("expired",), held.expired),
        (_STORE_FAILURES, (), held.failures),
    ]
