"""Write what each shown user took and holds, in Prometheus's format."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from sglang.srt.tenancy.metrics.metric import PREFIX, Metric, Sample
from sglang.srt.tenancy.user_id import digest

OTHERS = "?other"  # no user can be called so

_WHO = ("user", "dp_rank")
_REQUESTS = Metric("user_requests_total", "Requests whose prompt has been computed.", _WHO)
_PROMPT = Metric(
    "user_prompt_tokens_total",
    "Prompt tokens by where they were found, and whose that was.",
    (*_WHO, "source", "scope"),
)
_OUTPUT = Metric("user_output_tokens_total", "Tokens of answers that have ended.", _WHO)
_LIMITED = Metric("user_limited_requests_total", "Requests refused by a limit.", (*_WHO, "limit"))
_HELD = Metric("user_cached_tokens", "Private tokens held on a tier.", (*_WHO, "tier"))
_WEIGHT = Metric("user_weight", "Weight in eviction and fair scheduling.", _WHO)
_WAITING = Metric("user_waiting_requests", "vtc, dlpm: requests in the scheduler's queue.", _WHO)
_RUNNING = Metric("user_running_requests", "vtc, dlpm: requests that run.", _WHO)
_SERVICE = Metric("user_service", "vtc, dlpm: service due, by weight.", _WHO)


def render(replicas: Sequence[Mapping[str, Any]], plain: bool) -> bytes:
    """Return the text. ``replicas``: each scheduler's answer to ``Usage``; ``plain``: user ids as
    they are, instead of their hash."""
    from prometheus_client import generate_latest
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

    families: dict[str, Any] = {}
    for metric, labels, value in _samples(replicas, (lambda user: user) if plain else digest):
        family = families.get(metric.name)
        if family is None:
            kind = CounterMetricFamily if metric.grows else GaugeMetricFamily
            family = kind(PREFIX + metric.name, metric.help, labels=metric.labels)
            families[metric.name] = family
        family.add_metric(labels, value)
    return bytes(generate_latest(_Families(list(families.values()))))  # type: ignore[arg-type]


class _Families:
    """What ``generate_latest`` needs of a registry."""

    def __init__(self, families: list[Any]):
        self._families = families

    def collect(self) -> list[Any]:
        return self._families


def _samples(
    replicas: Sequence[Mapping[str, Any]], label: Callable[[str], str]
) -> Iterator[Sample]:
    for rank, replica in enumerate(replicas):
        for entry in replica["users"]:
            user = entry["user"]
            # What begins like that is nobody's name: it says no more than it seems to.
            shown = OTHERS if user is None else user if user.startswith("?") else label(user)
            yield from _of_user(entry, (shown, str(rank)))


def _of_user(entry: Mapping[str, Any], who: tuple[str, str]) -> Iterator[Sample]:
    yield _REQUESTS, who, entry["requests"]
    yield _OUTPUT, who, entry["output"]
    for source, scope, tokens in entry["prompt"]:
        yield _PROMPT, (*who, source, scope), tokens
    for limit, count in entry["limited"].items():
        yield _LIMITED, (*who, limit), count
    for tier, tokens in entry["held"].items():
        yield _HELD, (*who, tier), tokens
    for metric, field in (
        (_WEIGHT, "weight"),
        (_WAITING, "waiting"),
        (_RUNNING, "running"),
        (_SERVICE, "service"),
    ):
        if field in entry:
            yield metric, who, entry[field]
