"""Limits per user: who is admitted, who waits, who is told when to come back."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest

from sglang.srt.tenancy.config import ConfigError, TenantConfig
from sglang.srt.tenancy.errors import RequestError
from sglang.srt.tenancy.http.rate_limiter import LimitExceeded, Permit, RateLimiter
from sglang.srt.tenancy.limits import Limits
from sglang.srt.tenancy.user_id import account_name


class Clock:
    seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def limiter(clock: Clock | None = None, processes: int = 1, **limits: int) -> RateLimiter:
    return RateLimiter(lambda user: Limits(**limits), processes, clock or Clock())


async def enter(
    limiter: RateLimiter, user: str | None = "alice", prompts: int = 1, tokens: float = 0
) -> Permit:
    name = account_name(user)
    return await limiter.enter({name: prompts}, {name: tokens * prompts})


def is_empty(limiter: RateLimiter) -> bool:
    return all(not (s.running or s.waiters or s.used) for s in limiter.standings.values())


async def turns_of_the_loop() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_those_who_wait_come_in_their_order() -> None:
    full = limiter(max_running=2, max_queued=2)
    passes = [await enter(full) for _ in range(2)]
    order: list[int] = []

    async def wait(number: int) -> Permit:
        entered = await enter(full)
        order.append(number)
        return entered

    waiting = [asyncio.create_task(wait(number)) for number in range(2)]
    await turns_of_the_loop()
    assert order == []
    with pytest.raises(LimitExceeded) as refused:
        await enter(full)
    assert (refused.value.status_code, refused.value.param) == (429, "max_queued")
    await enter(full, "bob")  # others do not notice
    full.leave(passes[0])
    full.leave(passes[0])  # twice is once
    await turns_of_the_loop()
    assert order == [0]
    full.leave(passes[1])
    await turns_of_the_loop()
    assert order == [0, 1]
    for task in waiting:
        full.leave(task.result())
    assert list(full.standings) == ["bob"]


async def test_nobody_waits_where_none_may() -> None:
    full = limiter(max_running=1, max_queued=0)
    await enter(full)
    with pytest.raises(LimitExceeded, match=r"max_queued: .* retry in 1 s"):
        await enter(full)


async def test_what_could_never_come_in_is_no_429() -> None:
    with pytest.raises(RequestError) as refused:
        await enter(limiter(max_running=4), prompts=5)
    assert refused.value.status_code == 400


async def test_the_nameless_are_one_user() -> None:
    full = limiter(max_running=1, max_queued=0)
    await enter(full, None)
    with pytest.raises(LimitExceeded):
        await enter(full, None)


async def test_a_batch_of_several_users_counts_for_each() -> None:
    full = limiter(max_running=2)
    ticket = await full.enter({"alice": 2, "bob": 1}, {})
    with pytest.raises(LimitExceeded):
        await full.enter({"alice": 1, "carol": 1}, {})
    assert {user: s.running for user, s in full.standings.items() if s.running} == {
        "alice": 2,
        "bob": 1,
    }
    full.leave(ticket)
    assert is_empty(full)


async def test_tokens_wear_off_within_the_minute() -> None:
    clock = Clock()
    metered = limiter(clock, tokens_per_minute=600)
    ticket = await enter(metered, tokens=500)
    metered.leave(ticket)
    metered.spend("alice", 660)  # what it really was
    with pytest.raises(LimitExceeded) as refused:
        await enter(metered)
    assert refused.value.param == "tokens_per_minute"
    assert refused.value.retry_after == 6
    await enter(metered, "bob")
    clock.seconds += refused.value.retry_after + 0.001
    await enter(metered)


async def test_processes_share_a_limit() -> None:
    one_of_three = limiter(processes=3, max_running=4, max_queued=0)
    await enter(one_of_three, prompts=2)
    with pytest.raises(LimitExceeded):
        await enter(one_of_three)


@pytest.mark.parametrize("seed", range(5))
async def test_whatever_breaks_off_leaves_nothing_behind(seed: int) -> None:
    rng = random.Random(seed)
    clock = Clock()
    full = limiter(clock, max_running=3, max_queued=4, tokens_per_minute=6000)
    inside: list[Permit] = []
    entering: list[asyncio.Task[Permit]] = []
    waited = refused = broken = 0
    for _ in range(2000):
        clock.seconds += 0.01
        action = rng.random()
        if action < 0.5:
            entering.append(asyncio.create_task(enter(full, rng.choice("ab"), 1, 5)))
        elif action < 0.75 and inside:
            full.leave(inside.pop(rng.randrange(len(inside))))
        elif entering:
            broken += 1
            rng.choice(entering).cancel()
        if rng.random() < 0.7:
            await asyncio.sleep(0)
        for task in [task for task in entering if task.done()]:
            entering.remove(task)
            if task.cancelled():
                continue
            if task.exception():
                assert isinstance(task.exception(), LimitExceeded)
                refused += 1
            else:
                inside.append(task.result())
        waited += any(s.waiters for s in full.standings.values())
        for standing in full.standings.values():
            assert standing.running <= 3
            assert standing.queued <= 4
    for task in entering:
        task.cancel()
    for ended in await asyncio.gather(*entering, return_exceptions=True):
        if isinstance(ended, Permit):
            inside.append(ended)
    for ticket in inside:
        full.leave(ticket)
    assert min(waited, refused, broken) > 0
    assert is_empty(full)


@pytest.mark.slow
async def test_nothing_is_left_of_users_without_limits() -> None:
    free = limiter()
    for number in range(200_000):
        free.leave(await enter(free, f"u{number}"))
    assert not free.standings


@pytest.mark.slow
async def test_nothing_is_left_of_users_who_are_gone() -> None:
    """A hundred come in the second in which a user's tokens wear off."""
    clock = Clock()
    busy = limiter(clock, max_running=1, max_queued=0, tokens_per_minute=60_000)
    most = 0
    for number in range(200_000):
        clock.seconds += 0.01
        user = f"u{number}"
        ticket = await enter(busy, user, tokens=10)
        if number % 20 == 0:
            with pytest.raises(LimitExceeded):
                await enter(busy, user)
        busy.leave(ticket)
        busy.spend(user, 1000)  # what it really was
        most = max(most, len(busy.standings))
    assert 100 <= most <= 250
    clock.seconds += 60
    for _ in range(most):
        busy.leave(await enter(busy, "still here"))
    assert not busy.standings


async def test_nothing_is_left_of_users_who_were_refused() -> None:
    """Nobody of them leaves, because nobody came in."""
    full = limiter(max_running=1)
    for number in range(1000):
        with pytest.raises(RequestError):
            await enter(full, f"u{number}", prompts=2)
        inside = await enter(full, "alice")
        with pytest.raises(LimitExceeded):
            await full.enter({"alice": 1, f"v{number}": 1}, {})
        waiting = asyncio.create_task(enter(full, "alice"))
        await asyncio.sleep(0)
        full.leave(inside)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
    assert not full.standings


async def test_what_was_used_is_charged_once() -> None:
    counted = limiter(tokens_per_minute=6_000)
    permit = await enter(counted, tokens=100)
    used = counted.standings["alice"]
    counted.charge(permit, "alice", 60)  # within the estimate
    assert used.used == 100
    counted.charge(permit, "alice", 60)  # beyond it
    assert used.used == 120
    counted.leave(permit)
    counted.charge(permit, "alice", 60)  # too late
    counted.leave(permit)
    assert used.used == 120


async def test_an_estimate_that_was_not_used_is_given_back() -> None:
    counted = limiter(tokens_per_minute=6_000)
    permit = await enter(counted, tokens=100)
    counted.charge(permit, "alice", 30)
    counted.leave(permit)
    assert counted.standings["alice"].used == 30


def load(tmp_path: Path, text: str) -> TenantConfig:
    path = tmp_path / "tenants.toml"
    path.write_text(text)
    return TenantConfig.load(str(path))


def test_users_inherit_the_default(tmp_path: Path) -> None:
    config = load(
        tmp_path,
        """
        [default]
        max_running = 8
        max_queued = 0
        tokens_per_minute = 60_000
        [users.alice]
        max_running = 16
        """,
    )
    assert config.limits_of("alice") == Limits(16, 0, 60_000)
    assert config.limits_of("bob") == Limits(8, 0, 60_000)
    assert load(tmp_path, "").limits_of("bob") == Limits()


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[default]\nmax_running = 0", "default.max_running"),
        ("[default]\nmax_queued = 3", "default.max_queued"),
        ("[default]\ntokens_per_minute = 1.5", "default.tokens_per_minute"),
        ("[users.alice]\nmax_running = true", "users.alice.max_running"),
        ("[users.alice]\nmax_running = 'x'", "users.alice.max_running"),
        ("[default]\nkeys = ['k']", "default.keys"),
        ("default = 3", "default"),
    ],
)
def test_bad_limits_are_refused_by_name(tmp_path: Path, text: str, named: str) -> None:
    with pytest.raises(ConfigError, match=r"tenants\.toml: ") as refused:
        load(tmp_path, text)
    assert named in str(refused.value)
