"""--tenant-idle-ttl: what is private to users who are gone goes, by a time that ranks are told."""

from __future__ import annotations

import asyncio
from array import array
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from support.engine import Engine, Setting, Task
from support.page_folder import PageFolder
from support.trees import start_group

from sglang.srt.tenancy.cache.core import idle
from sglang.srt.tenancy.cache.core.idle import LastUse
from sglang.srt.tenancy.cache.core.node import walk
from sglang.srt.tenancy.control.messages import TenantControl, Tick
from sglang.srt.tenancy.control.scheduler_handler import Control
from sglang.srt.tenancy.http import ticker

PAGE = 4
COMMON = array("q", range(100, 140))


def own(number: int, tokens: int = 8) -> array[int]:
    return array("q", [1000 + 100 * number + at for at in range(tokens)])


@pytest.fixture(autouse=True, scope="module")
def _group(tmp_path_factory: pytest.TempPathFactory) -> None:
    start_group(tmp_path_factory.mktemp("group"))


def engine(**changes: Any) -> Engine:
    on = Engine(Setting(**{"page_size": PAGE, "detector": "none", "idle_ttl": 10.0, **changes}))
    on.cache.tick(0)
    return on


def begin(on: Engine, user: str, prompt: array[int]) -> Task:
    task = on.new_task(user, prompt)
    assert on.admit(task)
    while not task.decoding:
        on.step(task, 1)
    return task


def serve(on: Engine, user: str, prompt: array[int]) -> None:
    on.finish(begin(on, user, prompt))
    on.land(99, 99)


def tick(on: Engine, seconds: int) -> None:
    on.cache.tick(seconds, [task.req for task in on.tasks])
    on.land(99, 99)
    on.check()


@pytest.mark.parametrize("host", [False, True])
def test_idle_users_lose_what_is_private_on_every_tier(host: bool) -> None:
    on = engine(host=host)
    on.cache.publish(COMMON[:20])
    serve(on, "ann", COMMON)
    tick(on, 6)
    serve(on, "ben", COMMON)
    tick(on, 10)
    assert on.cache.core.device.order.sizes == {"": 20, "ann": 20, "ben": 20}
    on.evict(25) if host else None  # something of ann's only the host has
    tick(on, 11)
    assert on.cache.core.device.order.sizes.keys() <= {"", "ben"}
    if host:
        assert on.cache.core.host.order.sizes == {"": 20, "ben": 20}
    assert [on.find(user, COMMON) for user in ("ann", "ben")] == [20, 40]
    tick(on, 17)
    assert on.find("ben", COMMON) == 20
    on.cache.withdraw(COMMON[:20])  # nor does it go back to somebody who is gone
    on.check()
    assert on.find("ann", COMMON) == 0
    assert not walk(on.cache.root_node)
    assert len(on.cache.core.idle.last_use) == 0
    on.drain()


def test_whoever_has_a_request_is_not_idle() -> None:
    on = engine()
    serve(on, "ann", COMMON)
    running = begin(on, "ben", COMMON)
    waiting = on.new_task("ann", COMMON)
    tick(on, 100)
    assert on.find("ann", COMMON) == on.find("ben", COMMON) == 40
    on.finish(running)
    on.abort(waiting)
    tick(on, 110)
    assert on.find("ann", COMMON) == 40  # idle since the tick that found the request
    tick(on, 111)
    assert on.find("ann", COMMON) == on.find("ben", COMMON) == 0
    on.drain()


def test_ticks_that_come_late_or_twice_mean_nothing() -> None:
    on = engine()
    tick(on, 50)
    serve(on, "ann", COMMON)
    for seconds in (60, 60, 45, 60):
        tick(on, seconds)
    assert on.find("ann", COMMON) == 40
    assert on.cache.core.idle.last_use.now == 60
    on.drain()


def test_the_first_tick_ends_no_time() -> None:
    on = Engine(Setting(page_size=PAGE, detector="none", idle_ttl=10.0))
    serve(on, "ann", COMMON)
    tick(on, 1_000_000)
    assert on.find("ann", COMMON) == 40
    tick(on, 1_000_011)
    assert on.find("ann", COMMON) == 0
    on.drain()


def test_a_tick_frees_a_bounded_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(idle, "WORK_PER_TICK", 10)
    on = engine()
    for number in range(24):
        serve(on, f"u{number}", own(number))
    serve(on, "ann", COMMON)
    for number in range(30):  # one user, many nodes
        serve(on, "ann", COMMON + own(50 + number))
    before = len(walk(on.cache.root_node))
    for seconds in range(20, 60):
        tick(on, seconds)
        now = len(walk(on.cache.root_node))
        assert before - now <= 10
        assert now < before
        before = now
        if not now:
            break
    assert not before
    assert on.cache.core.counts["expired_users"] == 25
    on.drain()


def test_a_user_who_comes_back_keeps_what_was_not_freed_yet(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(idle, "WORK_PER_TICK", 4)
    on = engine()
    serve(on, "ann", COMMON)
    for number in range(9):
        serve(on, "ann", COMMON + own(number))
    tick(on, 20)
    left = on.cache.core.device.order.sizes["ann"]
    assert 0 < left < 40 + 9 * 8
    serve(on, "ann", COMMON)
    tick(on, 21)
    assert on.cache.core.device.order.sizes["ann"] == left
    on.drain()


def test_nothing_is_looked_at_that_has_not_expired() -> None:
    """The cost of a tick is that of what expires: the owners are in the order of their use."""
    looked: list[str] = []

    class Watched(dict[str, float]):
        def __getitem__(self, owner: str) -> float:
            looked.append(owner)
            return super().__getitem__(owner)

    last_use = LastUse(10.0)
    last_use.advance(0)
    for number in range(1000):
        last_use.use(f"u{number}")
    last_use.advance(8)
    last_use.use("u7")
    last_use._used = Watched(last_use._used)  # type: ignore[assignment]
    last_use.advance(9)
    assert last_use.oldest_expired() is None
    assert looked == ["u0"]


@pytest.mark.slow
async def test_the_ticker_sends_the_same_from_every_process() -> None:
    sent: list[list[Tick]] = [[], []]
    options: Any = SimpleNamespace(tenant_idle_ttl=4.0)
    for ticks in sent:
        ticker.start(SimpleNamespace(tell=ticks.append), options)  # type: ignore[arg-type]
    await asyncio.sleep(2.2)
    assert len(set(sent[0]) | set(sent[1])) <= 4
    assert len(sent[0]) >= 2
    seconds = [tick.seconds for tick in sent[0]]
    assert seconds == sorted(seconds)
    assert ticker.period(SimpleNamespace(tenant_idle_ttl=3600.0)) == 5  # type: ignore[arg-type]


def test_a_tick_is_an_order_as_any_other() -> None:
    on = engine()
    serve(on, "ann", COMMON)
    control = Control(on.cache)
    for seconds in (1, 12):
        assert control(TenantControl(rid="r", request=Tick(seconds))).refusal is None
    assert on.find("ann", COMMON) == 0
    on.drain()


@pytest.mark.slow
def test_pages_in_storage_go_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SGLANG_HICACHE_FILE_BACKEND_STORAGE_DIR", str(tmp_path))
    storage = PageFolder(tmp_path, Setting(page_size=PAGE, detector="none", idle_ttl=10.0))
    on = storage.engine
    on.cache.tick(0)
    serve(on, "ann", COMMON)
    storage.settle()
    assert storage.pages()
    tick(on, 11)
    assert not storage.pages()
    on.cache.detach_storage_backend()
    on.drain()
