"""A reload of the config file divides memory and service anew, or changes nothing."""

from __future__ import annotations

import random
from array import array
from typing import Any

import pytest
from fair_service.device import Device
from fair_service.engine import Engine as Rounds
from fair_service.record import Ask
from support.engine import Engine, Setting
from support.trees import start_group

from sglang.srt.tenancy.cache.core.quota import CacheShares
from sglang.srt.tenancy.control.messages import (
    Configure,
    ControlRequest,
    Prefix,
    SetUser,
    TenantControl,
    TenantControlReply,
)
from sglang.srt.tenancy.control.scheduler_handler import Control
from sglang.srt.tenancy.user_settings import DEFAULT, UserSettings

PAGE = 4
SIZE = 512


@pytest.fixture(autouse=True, scope="module")
def _group(tmp_path_factory: pytest.TempPathFactory) -> None:
    start_group(tmp_path_factory.mktemp("group"))


def engine(**changes: Any) -> Engine:
    return Engine(
        Setting(**{"page_size": PAGE, "detector": "none", "device_tokens": SIZE, **changes})
    )


def serve(on: Engine, user: str, number: int = 0) -> None:
    first = 1000 * (number + 1)
    task = on.new_task(user, array("q", range(first, first + 40)))
    assert on.admit(task)
    while not task.decoding:
        on.step(task)
    on.finish(task)
    on.land(99, 99)
    on.check()


def sizes(on: Engine) -> list[dict[str, int]]:
    orders = [on.cache.core.device.order]
    return [
        dict(o.sizes) for o in [*orders, *([on.cache.core.host.order] if on.setting.host else [])]
    ]


@pytest.mark.parametrize("host", [False, True])
def test_a_new_share_is_kept_at_once_and_a_dropped_one_no_more(host: bool) -> None:
    on = engine(host=host)
    for number in range(4):
        serve(on, "ann", number)
    serve(on, "ben")
    assert all(tier["ann"] == 160 for tier in sizes(on))
    on.cache.redivide({}, CacheShares({"ann": 0.1}))
    on.check()
    device, *tiers = sizes(on)
    assert device == {"ann": 48, "ben": 40}
    assert all(tier["ann"] <= 0.1 * on.cache.token_to_kv_pool_host.size for tier in tiers)
    serve(on, "ann", 9)
    assert sizes(on)[0]["ann"] <= 51
    on.cache.redivide({}, CacheShares())
    for number in range(3):
        serve(on, "ann", number)
    assert sizes(on)[0]["ann"] > 100
    on.drain()


@pytest.mark.parametrize("host", [False, True])
def test_new_weights_say_who_gives(host: bool) -> None:
    on = engine(host=host)
    for number in range(5):
        serve(on, "ann", number)
        serve(on, "ben", 10 + number)
    on.cache.redivide({"ann": 4.0}, CacheShares())
    on.evict(120)
    on.check()
    assert sizes(on)[0]["ann"] == 200
    on.cache.redivide({"ben": 4.0}, CacheShares())
    on.evict(120)
    on.check()
    assert sizes(on)[0] == {"ann": 80, "ben": 80}
    on.drain()


@pytest.mark.parametrize("policy", ["vtc", "dlpm"])
def test_turns_follow_new_weights(policy: str) -> None:
    rounds = Rounds(policy, device=Device(memory=600, running=16, chunk=64), tenant_dlpm_quantum=50)
    rng = random.Random(0)
    for user in ("ann", "ben"):
        for _ in range(400):
            prompt = [rng.randrange(1 << 30) for _ in range(20)]
            rounds.receive(Ask(0.0, user, prompt, 20))

    def served(steps: int) -> float:
        """What ann got, as a part of both."""
        before = dict(rounds.service)
        for _ in range(steps):
            rounds.step()
        assert {req.user_id for req in rounds.waiting_queue} == {"ann", "ben"}
        got = {user: rounds.service[user] - before.get(user, 0.0) for user in ("ann", "ben")}
        return got["ann"] / sum(got.values())

    assert served(200) == pytest.approx(1 / 2, abs=0.05)
    rounds.policy.reweigh({"ann": 3.0})
    assert served(200) == pytest.approx(3 / 4, abs=0.05)
    rounds.policy.reweigh({"ben": 3.0})
    assert served(200) == pytest.approx(1 / 4, abs=0.05)


def send(control: Control, request: ControlRequest) -> TenantControlReply:
    return control(TenantControl(rid="r", request=request))


def test_a_file_that_is_refused_changes_nothing() -> None:
    on = engine()
    control = Control(on.cache)
    good = Prefix("good", "input_ids", array("q", range(8)))
    short = Prefix("short", "input_ids", array("q", [1]))
    before = {"ann": UserSettings(2.0, cache_share=0.5), DEFAULT: UserSettings(cache_share=0.25)}
    assert send(control, Configure([good], before)).refusal is None
    quota = on.cache.core.quota
    assert (quota.weights, quota.shares) == ({"ann": 2.0}, CacheShares({"ann": 0.5}, 0.25))
    small = {"ann": UserSettings(9.0), "ben": UserSettings(cache_share=0.001)}
    refused = send(control, Configure([], small)).refusal
    assert refused is not None
    assert refused.message.startswith("--tenant-config: users.ben.cache_share: 0.001 of 512")
    assert refused.status == 400
    other = {"ann": UserSettings(9.0, cache_share=0.9)}
    assert send(control, Configure([short], other)).refusal is not None
    assert (quota.weights, quota.shares) == ({"ann": 2.0}, CacheShares({"ann": 0.5}, 0.25))
    assert len(control.prefixes) == 1
    assert send(control, Configure([])).refusal is None
    assert (quota.weights, quota.shares) == ({}, None)
    on.drain()


def test_what_is_set_at_run_time_stays_and_the_file_counts() -> None:
    on = engine()
    control = Control(on.cache)
    quota = on.cache.core.quota
    ann = UserSettings(3.0, max_running=1, cache_share=0.5)
    assert send(control, SetUser("ann", ann)).refusal is None
    assert (quota.weights, quota.shares) == ({"ann": 3.0}, CacheShares({"ann": 0.5}))
    refused = send(control, SetUser("ben", UserSettings(5.0, cache_share=0.001))).refusal
    assert refused is not None
    assert refused.param == "cache_share"
    assert quota.weights == {"ann": 3.0}
    answer = send(control, Configure([], {"ann": UserSettings(2.0)}, 0.5)).answer
    assert answer["overrides"] == {"ann": ann}
    assert (quota.weights, quota.shares) == ({"ann": 2.0, "": 0.5}, CacheShares({"ann": 0.5}))
    assert send(control, SetUser(DEFAULT, UserSettings(cache_share=0.25))).refusal is None
    assert quota.shares == CacheShares({"ann": 0.5}, 0.25)
    for user in ("ann", "nobody", DEFAULT):
        assert send(control, SetUser(user, None)).refusal is None
    assert (quota.weights, quota.shares) == ({"ann": 2.0, "": 0.5}, None)
    on.drain()
