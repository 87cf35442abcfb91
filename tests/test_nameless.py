"""Requests without a name are one user, wherever distinct users are counted."""

from __future__ import annotations

from array import array
from collections.abc import Callable
from typing import Any

import pytest
from support.engine import Engine, Setting
from support.trees import start_group

from sglang.srt.tenancy.cache.core.node import walk
from sglang.srt.tenancy.user_id import SHARED_ANONYMOUS, fresh_anonymous

COMMON = array("q", range(100, 140))
MOST = 400  # probes

# As the scheduler gets them: unnamed by whatever sent it, isolated, sharing one account.
NAMELESS: dict[str, Callable[[], tuple[str | None, str | None]]] = {
    "unnamed": lambda: (None, None),
    "isolated": lambda: (fresh_anonymous(), "none"),
    "sharing": lambda: (SHARED_ANONYMOUS, None),
}


@pytest.fixture(autouse=True, scope="module")
def _group(tmp_path_factory: pytest.TempPathFactory) -> None:
    start_group(tmp_path_factory.mktemp("group"))


def engine(**changes: Any) -> Engine:
    return Engine(Setting(**{"page_size": 4, "host": False} | changes))


def serve(on: Engine, user: str | None, prompt: array[int], scope: str | None = None) -> None:
    task = on.new_task(user, prompt, scope=scope)
    assert on.admit(task)
    while not task.decoding:
        on.step(task, 1)
    on.finish(task)
    on.check()


def probes(every: int, other: Callable[[], tuple[str | None, str | None]]) -> int:
    """Of one user, each so-many-th by another, until what is probed is private again."""
    on = engine(rdr_threshold=0.1, rdr_min_hits=16)
    serve(on, "ann", COMMON)
    serve(on, "ben", COMMON)
    assert on.find("cyn", COMMON) == 40
    for number in range(1, MOST):
        user, scope = ("ben", None) if number % every else other()
        serve(on, user, COMMON + array("q", [1, 2, 3, number]), scope)
        if on.cache.core.counts.get("demotions"):
            on.drain()
            return number
    return MOST


@pytest.mark.parametrize("kind", NAMELESS)
@pytest.mark.parametrize("every", [2, 8])
def test_nameless_probes_hide_no_prober(kind: str, every: int) -> None:
    """They count as one user more, however many there are."""
    one_more = probes(every, lambda: ("dan", None))
    assert one_more < MOST
    assert probes(every, NAMELESS[kind]) == one_more


@pytest.mark.parametrize("kind", NAMELESS)
def test_the_nameless_alone_make_nothing_public(kind: str) -> None:
    on = engine(public_users=2)
    for _ in range(5):
        serve(on, *_asked(kind, COMMON))
    assert on.find("ann", COMMON) == 0
    on.drain()


def _asked(kind: str, prompt: array[int]) -> tuple[str | None, array[int], str | None]:
    user, scope = NAMELESS[kind]()
    return user, prompt, scope


def test_those_who_share_an_account_are_one_of_the_users_it_takes() -> None:
    on = engine(public_users=3)
    for _ in range(3):
        serve(on, *_asked("sharing", COMMON))
    serve(on, "ann", COMMON)
    assert on.find("ben", COMMON) == 0
    serve(on, "ben", COMMON)
    assert on.find("cyn", COMMON) == 40
    on.drain()


@pytest.mark.parametrize("kind", ["unnamed", "isolated"])
@pytest.mark.parametrize("host", [False, True])
def test_who_is_new_each_time_leaves_nothing(kind: str, host: bool) -> None:
    on = engine(host=host)
    for number in range(5):
        serve(on, *_asked(kind, COMMON + array("q", [number] * 8)))
        on.land(99, 99)
    assert not walk(on.cache.root_node)
    assert on.cache.core.device.order.sizes == {}
    on.drain()
