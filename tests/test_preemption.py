"""Whoever was served less preempts a prompt that has begun: upstream's round, a modelled device."""

from __future__ import annotations

import random
from typing import Any

import pytest
from fair_service.device import Device
from fair_service.engine import Engine
from fair_service.record import Ask

from sglang.srt.managers.schedule_batch import Req
from sglang.srt.tenancy.schedule import preemption
from sglang.srt.tenancy.schedule.fair_policy import RECENT_ADMISSIONS, FairPolicy
from sglang.srt.tenancy.schedule.vtc import VirtualTokenCounter

FAIR = ["vtc", "dlpm"]
STEP = 64
PART = STEP // preemption.PART
DEVICE = Device(memory=6_000, running=16, chunk=STEP)
LONG = 20 * STEP  # tokens


def engine_of(policy: str, device: Device = DEVICE, **more: Any) -> Engine:
    return Engine(policy, device, tenant_dlpm_quantum=300.0, **more)


def ask(engine: Engine, user: str, tokens: int, answer: int = 2) -> Req:
    """A prompt that begins like no other one."""
    first = 10_000 * len(engine.served)
    return engine.receive(Ask(engine.now, user, range(first, first + tokens), answer))


def behind_a_long_prompt(policy: str, user: str, tokens: int) -> tuple[Engine, Req, Req]:
    """A prompt of 20 steps has begun when another request comes; one more step is done."""
    engine = engine_of(policy)
    long = ask(engine, "noisy", LONG)
    engine.step()
    other = ask(engine, user, tokens)
    engine.step()
    return engine, long, other


def to_the_end(engine: Engine) -> None:
    while engine.busy:
        engine.step()


def first_token(engine: Engine, req: Req) -> float:
    return engine.served[req].first_token


@pytest.mark.parametrize("policy", FAIR)
@pytest.mark.parametrize("tokens", [1, 20, STEP])
def test_it_goes_before_the_rest_of_a_long_prompt(policy: str, tokens: int) -> None:
    engine, long, other = behind_a_long_prompt(policy, "victim", tokens)
    assert first_token(engine, other) > 0
    assert engine.waiting_queue == [long]
    to_the_end(engine)
    # Nothing is computed twice, and nothing of one's own counts as found.
    assert engine.computed == LONG + tokens
    assert engine.served[long].cached == 0


@pytest.mark.parametrize("policy", FAIR)
def test_also_where_it_takes_steps_itself(policy: str) -> None:
    engine, long, other = behind_a_long_prompt(policy, "victim", 3 * STEP)
    engine.step()
    engine.step()
    assert 0 < first_token(engine, other) <= engine.now
    to_the_end(engine)
    assert engine.computed == LONG + 3 * STEP
    assert first_token(engine, long) > first_token(engine, other)


@pytest.mark.parametrize("policy", FAIR)
@pytest.mark.parametrize(("user", "tokens"), [("noisy", 20), ("victim", LONG)])
def test_not_before_ones_own_and_not_with_as_much(policy: str, user: str, tokens: int) -> None:
    engine, long, other = behind_a_long_prompt(policy, user, tokens)
    assert engine.chunked_req is long
    to_the_end(engine)
    assert first_token(engine, long) < first_token(engine, other)


@pytest.mark.parametrize("policy", FAIR)
def test_what_counts_is_the_prompt_not_the_answer(policy: str) -> None:
    engine = engine_of(policy)
    long = ask(engine, "noisy", LONG, answer=LONG)
    engine.step()
    ask(engine, "victim", LONG + 1)
    engine.step()
    assert engine.chunked_req is long


@pytest.mark.parametrize("policy", ["fcfs", "lpm"])
def test_upstreams_policies_finish_what_they_have_begun(policy: str) -> None:
    engine, long, other = behind_a_long_prompt(policy, "victim", 20)
    assert first_token(engine, other) < 0
    assert engine.chunked_req is long


@pytest.mark.parametrize("policy", FAIR)
def test_a_long_prompt_comes_to_an_end_whoever_else_comes(policy: str) -> None:
    """It gets as much as it needs; those who come meanwhile get as much, and no more."""
    engine = engine_of(policy)
    long = ask(engine, "noisy", LONG)
    engine.step()
    before = 0
    while first_token(engine, long) < 0:
        ask(engine, "chatty", STEP, answer=1)
        before += STEP
        engine.step()
        assert before < 3 * LONG
    chatty = sum(s.first_token > 0 for s in engine.served.values() if s.ask.user == "chatty")
    assert LONG / 2 <= chatty * STEP <= LONG + 2 * STEP
    assert engine.idle_rounds == 0


@pytest.mark.parametrize("policy", FAIR)
def test_also_where_others_come_one_by_one(policy: str) -> None:
    """To be preempted is not to be away: it costs its user nothing."""
    engine = engine_of(policy)
    ask(engine, "chatty", STEP, answer=1)
    to_the_end(engine)
    long = ask(engine, "noisy", LONG)
    before = 0
    while first_token(engine, long) < 0:
        engine.step()
        other = ask(engine, "chatty", STEP, answer=1)
        before += STEP
        while first_token(engine, other) < 0 and first_token(engine, long) < 0:
            engine.step()
    assert before <= LONG + 2 * STEP
    assert isinstance(engine.policy, FairPolicy)
    noisy = engine.policy.tracker.users["noisy"]
    assert noisy.due <= LONG + 4 * STEP


@pytest.mark.parametrize("policy", FAIR)
@pytest.mark.parametrize("seed", range(3))
def test_two_prompts_never_preempt_each_other(policy: str, seed: int) -> None:
    """However many begin, each goes back at most once for each other one, and none is lost."""
    rng = random.Random(seed)
    engine = engine_of(policy, Device(memory=100_000, running=16, chunk=STEP))
    put_back = 0
    for _ in range(400):
        if rng.random() < 0.2:
            ask(engine, f"u{rng.randrange(5)}", rng.choice([10, 100, 300, 700]))
        waited = set(engine.waiting_queue)
        engine.step()
        put_back += any(req not in waited for req in engine.waiting_queue)
    to_the_end(engine)
    assert put_back > 5
    assert all(served.finished > 0 for served in engine.served.values())
    assert engine.computed == sum(len(served.ask.prompt) for served in engine.served.values())
    assert put_back < len(engine.served)
    assert isinstance(engine.policy, FairPolicy)
    assert sum(user.promised for user in engine.policy.tracker.users.values()) == 0


@pytest.mark.parametrize("policy", FAIR)
def test_a_preempted_prompt_is_next_among_equals(policy: str) -> None:
    """It keeps its place in its user's queue."""
    engine, long, _ = behind_a_long_prompt(policy, "victim", 20)
    later = ask(engine, "noisy", LONG)
    to_the_end(engine)
    assert first_token(engine, long) < first_token(engine, later)


@pytest.mark.parametrize("policy", FAIR)
def test_a_long_prompt_takes_smaller_steps_while_nobody_waits(policy: str) -> None:
    engine = engine_of(policy)
    ask(engine, "victim", 1)
    to_the_end(engine)
    long = ask(engine, "noisy", LONG)
    for number in range(1, 4):
        engine.step()
        assert len(long.prefix_indices) == number * PART
    ask(engine, "noisy", LONG)
    engine.step()
    assert len(long.prefix_indices) == 3 * PART + STEP


def test_smaller_steps_are_whole_tiles() -> None:
    """Deterministic inference cuts a prompt at them only, and begins none with less."""
    engine = engine_of("vtc")
    ask(engine, "victim", 1)
    to_the_end(engine)
    engine.truncation_align_size = 2 * PART
    long = ask(engine, "noisy", LONG)
    engine.step()
    assert len(long.prefix_indices) == 2 * PART


def test_the_only_user_gets_full_steps() -> None:
    engine = engine_of("vtc")
    long = ask(engine, "noisy", LONG)
    engine.step()
    assert len(long.prefix_indices) == STEP


def test_who_has_long_gone_is_not_waited_for() -> None:
    engine = engine_of("vtc")
    ask(engine, "victim", 1)
    to_the_end(engine)
    for _ in range(RECENT_ADMISSIONS):
        ask(engine, "noisy", 1)
        to_the_end(engine)
    long = ask(engine, "noisy", LONG)
    engine.step()
    assert len(long.prefix_indices) == STEP


def test_what_comes_back_is_queued_by_age() -> None:
    engine = engine_of("vtc")
    reqs = [ask(engine, "noisy", 10) for _ in range(4)]
    policy = engine.policy
    assert isinstance(policy, VirtualTokenCounter)
    policy.preempts(engine.waiting_queue, reqs[0])
    (queue,) = [user.queue for user in policy.tracker.users.values()]
    tickets = list(queue)
    queue.clear()
    for number in (3, 1, 0, 2):
        policy._add(tickets[number])
    assert list(queue) == tickets


def test_the_tracker_is_updated_once_a_round() -> None:
    """Also in a round that asks first whether somebody goes before what has begun."""
    engine = engine_of("dlpm")
    ask(engine, "noisy", LONG)
    engine.step()
    ask(engine, "other", 2 * LONG)
    opened = 0
    assert isinstance(engine.policy, FairPolicy)
    original = engine.policy._open

    def counted(waiting: Any) -> None:
        nonlocal opened
        opened += 1
        original(waiting)

    engine.policy._open = counted  # type: ignore[method-assign]
    for rounds in range(1, 4):
        engine.step()
        assert opened == rounds


def test_what_fits_a_step_is_computed_in_one() -> None:
    engine = engine_of("vtc")
    ask(engine, "victim", 1)
    to_the_end(engine)
    short = ask(engine, "noisy", STEP)
    engine.step()
    assert first_token(engine, short) > 0


@pytest.mark.parametrize("policy", FAIR)
def test_a_long_prompt_begins_in_a_step_of_its_own(policy: str) -> None:
    engine = engine_of(policy)
    short, long = ask(engine, "victim", 10), ask(engine, "noisy", LONG)
    engine.step()
    assert first_token(engine, short) > 0
    assert engine.waiting_queue == [long]
    # Under upstream's it fills the step.
    engine = engine_of("fcfs")
    ask(engine, "victim", 10)
    long = ask(engine, "noisy", LONG)
    engine.step()
    assert engine.chunked_req is long


def full_of_noise(policy: str) -> Engine:
    """Three fit, and the fourth waits for one of them to end."""
    engine = engine_of(policy, Device(memory=1_000, running=16, chunk=None))
    for _ in range(4):
        ask(engine, "noisy", 200, answer=100)
    while not engine.running_batch.batch_is_full:
        engine.step()
    engine.step()
    assert len(engine.running_batch.reqs) == 3
    return engine


def test_who_comes_is_looked_at_although_another_did_not_fit() -> None:
    engine = full_of_noise("vtc")
    other = ask(engine, "victim", 20)
    engine.step()
    assert first_token(engine, other) > 0
    assert len(engine.running_batch.reqs) == 4


def test_under_upstreams_policies_nobody_is() -> None:
    engine = full_of_noise("fcfs")
    other = ask(engine, "victim", 20)
    engine.step()
    assert first_token(engine, other) < 0


@pytest.mark.parametrize("policy", FAIR)
def test_preempted_is_not_retracted_and_waits_from_then_on(policy: str) -> None:
    engine = engine_of(policy)
    long = ask(engine, "noisy", LONG)
    long.time_stats.set_wait_queue_entry_time(ts=1.0)
    engine.step()
    ask(engine, "victim", 20)
    engine.step()
    assert engine.waiting_queue == [long]
    assert long.retraction_count == 0
    assert long.time_stats.wait_queue_entry_time > 1.0


class Counted(list[Req]):
    """Counts what is read of it."""

    reads = 0

    def __getitem__(self, at: Any) -> Any:
        self.reads += 1
        return super().__getitem__(at)


def test_looking_whether_somebody_came_costs_the_same_however_many_wait() -> None:
    engine = engine_of("vtc")
    assert isinstance(engine.policy, FairPolicy)
    waiting = Counted(ask(engine, "noisy", 1) for _ in range(100))
    assert engine.policy.has_newcomers(waiting)
    assert waiting.reads == 1


@pytest.mark.parametrize("policy", FAIR)
def test_an_abort_of_a_preempted_prompt_settles_the_account(policy: str) -> None:
    engine, long, _ = behind_a_long_prompt(policy, "victim", 20)
    assert isinstance(engine.policy, FairPolicy)
    noisy = engine.policy.tracker.users["noisy"]
    assert noisy.due == LONG
    engine.abort(long)
    ask(engine, "victim", 1)
    to_the_end(engine)
    assert noisy.due == noisy.counter == STEP
    assert noisy.waiting == noisy.running == 0


@pytest.mark.parametrize("policy", FAIR)
def test_what_is_kept_nowhere_is_not_preempted(policy: str) -> None:
    """All of it would have to be computed again."""
    engine = engine_of(policy)
    long = ask(engine, "noisy", LONG)
    long.cache_scope = "none"
    engine.step()
    ask(engine, "victim", 20)
    engine.step()
    assert engine.chunked_req is long
    to_the_end(engine)
    assert engine.computed == LONG + 20
