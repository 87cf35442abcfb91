"""What users took: nothing is lost or counted twice, and few users are shown by name."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from sglang.srt.tenancy.metrics.metric import Metric, MetricWriter
from sglang.srt.tenancy.metrics.scheduler import Sampler
from sglang.srt.tenancy.metrics.users import render
from sglang.srt.tenancy.usage import Found, Usage, UsageCounter
from sglang.srt.tenancy.user_id import digest

Totals = Counter[tuple[str, ...]]


def totals(usage: Usage) -> Totals:
    counted: Totals = Counter({("requests",): usage.requests, ("output",): usage.output})
    counted.update({("prompt", *where): tokens for *where, tokens in usage.by_scope()})
    counted.update({("limited", limit): number for limit, number in usage.limited.items()})
    return counted


def shown_totals(counter: UsageCounter) -> Totals:
    added: Totals = Counter()
    for _, usage in counter.shown():
        added.update(totals(usage))
    return added


def draw_found(draw: random.Random) -> Found:
    device, host, storage, computed = (draw.choice((0, 0, 1, 7, 300)) for _ in range(4))
    public = draw.randint(0, device + host + storage)
    return Found(device, host, storage, computed, public)


@pytest.mark.parametrize("seed", range(20))
def test_all_users_together_took_what_was_counted(seed: int) -> None:
    draw = random.Random(seed)
    names = [f"user-{number}" for number in range(draw.choice((3, 60, 3000)))]
    counter = UsageCounter(names[:2], slots=draw.choice((1, 4, 32)))
    before: dict[str, Totals] = {}
    dropped: Totals = Counter()
    for step in range(4000):
        user = names[min(int(draw.paretovariate(0.6)) - 1, len(names) - 1)]
        kind = draw.random()
        if kind < 0.6:
            counter.admit(user, draw_found(draw))
        elif kind < 0.9:
            counter.answered(user, draw.randint(1, 50))
        elif kind < 0.98:
            counter.limit(user, {draw.choice(("max_running", "max_queued")): 1})
        elif kind < 0.99:
            counter.forget(user)
        else:
            counter.name(draw.sample(names, 2))
        shown = {str(name): totals(usage) for name, usage in counter.shown()}
        for name, was in before.items():
            if name in shown and not was - shown[name]:
                continue
            dropped.update(was)  # gone, or begun anew after it was
        before = shown
        assert len(counter.users) <= counter._slots + len(counter.named)
        if step % 500 == 0:
            everything = shown_totals(counter) + dropped
            assert everything == +totals(counter.total), step


def test_who_takes_most_is_shown() -> None:
    counter = UsageCounter(slots=4)
    found = Found(device=0, host=0, storage=0, computed=10)
    for number in range(20_000):
        counter.admit(f"once-{number}", found)
        if number > 5_000:
            counter.admit("busy", found)
    assert "busy" in counter.users
    assert len(counter._recent) <= 256


def test_who_is_named_is_always_shown() -> None:
    counter = UsageCounter(["named"], slots=1)
    found = Found(device=1, host=0, storage=0, computed=0)
    for user in ("other", "third", "named"):
        counter.admit(user, found)
    assert set(counter.users) == {"other", "named"}
    counter.name(["third"])
    counter.admit("third", found)
    assert set(counter.users) == {"other", "third"}


def test_what_is_public_is_what_comes_first() -> None:
    found = Found(device=10, host=4, storage=2, computed=5, public=12)
    usage = Usage()
    for _ in range(2):
        usage.admit(found.by_scope())
    assert list(usage.by_scope()) == [
        ("device", "public", 20),
        ("device", "private", 0),
        ("host", "public", 4),
        ("host", "private", 4),
        ("storage", "public", 0),
        ("storage", "private", 4),
        ("computed", "none", 10),
    ]


def test_counters_go_on_where_what_they_count_begins_anew() -> None:
    from prometheus_client import REGISTRY

    writer = MetricWriter({"model_name": "test"})
    growing = Metric("usage_test_total", "For this test.", ("kind",))
    level = Metric("usage_test_level", "For this test.")
    for number in (3.0, 3.0, 5.0, 2.0):
        writer.write([(growing, ("a",), number), (level, (), number)])
    labels = {"model_name": "test"}
    assert REGISTRY.get_sample_value("sglang:tenant_usage_test_total", labels | {"kind": "a"}) == (
        3 + 2 + 2
    )
    assert REGISTRY.get_sample_value("sglang:tenant_usage_test_level", labels) == 2


def test_sampling_takes_its_share_of_time_at_most() -> None:
    times: Iterator[float] = iter((10.0, 10.1, 30.0, 61.0, 61.0, 61.5, 62.1, 62.1))
    spent: Iterator[float] = iter((3.0, 3.1, 4.0, 4.0, 5.0, 5.0))
    taken: list[int] = []
    sampler = Sampler(lambda: taken.append(1), lambda: next(times), lambda: next(spent))
    sampler.sample_if_due()  # took 0.1 s: the next is due in 50
    sampler.sample_if_due()  # at 30 s
    assert len(taken) == 1
    sampler.sample_if_due()  # at 61 s, takes no time
    sampler.sample_if_due()  # at 61.5 s
    assert len(taken) == 2
    sampler.sample_if_due()  # at 62.1 s
    assert len(taken) == 3


def test_a_user_is_shown_by_a_hash_or_as_asked() -> None:
    entry = {"requests": 3, "output": 5, "prompt": [["device", "public", 7]], "held": {"host": 2}}
    took = entry | {"limited": {"max_running": 1}, "weight": 2.0}
    others = entry | {"limited": {}}
    replicas = [{"users": [{"user": "ann", **took}, {"user": "?anonymous", **others}]}]
    replicas += [{"users": [{"user": None, **others}]}]
    for plain, name in ((False, digest("ann")), (True, "ann")):
        text = render(replicas, plain).decode()
        assert f'sglang:tenant_user_requests_total{{dp_rank="0",user="{name}"}} 3.0' in text
        assert 'user="?anonymous"' in text
        assert 'sglang:tenant_user_cached_tokens{dp_rank="1",tier="host",user="?other"} 2.0' in text
        assert ("ann" in text.replace("?anonymous", "")) == plain


def test_each_metric_is_documented() -> None:
    from sglang.srt.tenancy.http import process_metrics
    from sglang.srt.tenancy.metrics import scheduler, users

    text = (Path(__file__).parent.parent / "docs" / "metrics.md").read_text()
    held = [*vars(scheduler).values(), *vars(users).values(), *vars(process_metrics).values()]
    names = {value.name for value in held if isinstance(value, Metric)}
    names |= {metric.name for metric in scheduler._COUNTS.values()}
    assert len(names) > 40
    assert [name for name in sorted(names) if f"`{name}`" not in text] == []
