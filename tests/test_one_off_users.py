"""A short version of ``make soak-users``: what users who come once leave behind."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
from support.one_off.http import FrontEnd
from support.one_off.samples import Sample, entries, slope
from support.one_off.tree import Visitors
from support.trees import start_group

from sglang.srt.tenancy.http.middleware import TenantMiddleware
from sglang.srt.tenancy.http.response_store import OwnedStore

USERS = 5_000


@pytest.fixture(autouse=True, scope="module")
def _group(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    start_group(tmp_path_factory.mktemp("group"))
    logging.disable(logging.WARNING)
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.slow
def test_the_tree_keeps_nothing_of_users_who_are_gone() -> None:
    visitors = Visitors()
    visitors.come(USERS // 2)  # by now both tiers are full
    full = visitors.counts()
    visitors.come(USERS - USERS // 2)
    left = visitors.counts()
    happened = visitors.happened()
    # Or it would prove little.
    for event in ("promotions", "merges", "erasures", "logical_frees", "demotions"):
        assert happened[event] > 5, (event, happened)
    assert left["nodes"] <= 2 * left["nodes_of_the_tree"]
    assert left["names"] <= left["nodes"] + 64
    assert left["nodes_of_the_tree"] <= 1.25 * full["nodes_of_the_tree"]
    visitors.engine.check()


@pytest.mark.slow
async def test_an_http_process_keeps_nothing_of_users_who_are_gone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for holder, name in (
        (TenantMiddleware, "resolver"),
        (TenantMiddleware, "limiter"),
        (OwnedStore, "most"),
    ):
        monkeypatch.setattr(holder, name, getattr(holder, name))
    front_end = FrontEnd()
    await front_end.come(USERS)
    counts = front_end.counts()
    assert front_end.refused == USERS // 10
    assert counts["standings"] <= 250
    assert counts["calls"] == 0
    assert len(front_end.responses) <= USERS * 9 // 10
    assert counts["chunks"] == USERS * 9 // 10


def test_entries_are_counted_in_tables_of_tables() -> None:
    assert entries({"a": [1, 2], "b": {"c": 3}}) == 2 + 2 + 1
    assert entries(7) == entries("text") == 0


def test_a_slope_is_that_of_the_second_half() -> None:
    samples: list[Sample] = [{"users": n * 100.0, "rss": min(n, 60) * 5.0} for n in range(100)]
    assert slope(samples, "rss") == 0
    growing: list[Sample] = [{"users": n * 100.0, "rss": n * 5.0} for n in range(100)]
    assert slope(growing, "rss") == pytest.approx(50)
