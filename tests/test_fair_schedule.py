"""Fair service: the proven bounds, on upstream's own scheduling round and a modelled device."""

from __future__ import annotations

import gc
import random
import sys
from collections import Counter
from types import FrameType
from typing import Any

import pytest
from fair_service.device import Device
from fair_service.engine import Engine
from fair_service.gap import Gaps
from fair_service.measures import proven_bound
from fair_service.record import Ask
from fair_service.service import Prices

from sglang.srt.managers.schedule_batch import Req
from sglang.srt.tenancy.schedule import service_tracker
from sglang.srt.tenancy.schedule.dlpm import DeficitLongestPrefixMatch
from sglang.srt.tenancy.schedule.factory import requests_to_try
from sglang.srt.tenancy.schedule.fair_policy import FairPolicy
from sglang.srt.tenancy.schedule.service_tracker import Prices as TrackerPrices
from sglang.srt.tenancy.schedule.service_tracker import ServiceTracker, Ticket, UserService
from sglang.srt.tenancy.schedule.vtc import VirtualTokenCounter
from sglang.srt.tenancy.user_id import SHARED_ANONYMOUS, fresh_anonymous

FAIR = ["vtc", "dlpm"]
SMALL = Device(memory=600, running=16, chunk=64)
LONGEST = 40  # tokens of a prompt
QUANTUM = 300.0


def some(rng: random.Random, user: str, at: float) -> Ask:
    """A prompt that shares a beginning with a third of the user's others."""
    seed = f"{user}.{rng.randrange(3)}"
    beginning = [hash_of(seed, i) for i in range(rng.choice([0, 10, 20]))]
    rest = [rng.randrange(1 << 30) for _ in range(rng.randrange(1, LONGEST - 20))]
    return Ask(at, user, beginning + rest, rng.randrange(1, 40))


def hash_of(text: str, number: int) -> int:
    return random.Random(f"{text}.{number}").randrange(1 << 30)


def flood(seed: int, at: float = 0.5) -> list[Ask]:
    """One user asks 300 times at once, one 60 times, four others now and then."""
    rng = random.Random(seed)
    asks = [some(rng, "flood", 0.0) for _ in range(300)]
    asks += [some(rng, "light", at) for _ in range(60)]
    return asks + [some(rng, f"u{rng.randrange(4)}", rng.random() * 20) for _ in range(150)]


def bound(engine: Engine, policy: str) -> float:
    if policy == "vtc":
        return proven_bound(Prices(), LONGEST, engine.device.memory)
    prices = engine.prices
    over = prices.computed * LONGEST + prices.output * engine.device.memory
    return 2 * (QUANTUM + over)


def engine_of(policy: str, **more: Any) -> Engine:
    more.setdefault("device", SMALL)
    return Engine(policy, tenant_dlpm_quantum=QUANTUM, **more)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("policy", FAIR)
def test_two_who_wait_are_served_alike(policy: str, seed: int) -> None:
    gaps = Gaps()
    engine = engine_of(policy, watch=gaps)
    served = engine.play(flood(seed))
    assert 0 < gaps.worst <= bound(engine, policy)
    assert all(s.finished > 0 for s in served)
    assert engine.idle_rounds == 0


@pytest.mark.parametrize("policy", ["fcfs", "lpm"])
def test_upstreams_policies_exceed_the_bound(policy: str) -> None:
    """Or the test above would prove nothing."""
    gaps = Gaps()
    engine = engine_of(policy, watch=gaps)
    engine.play(flood(0))
    assert gaps.worst > 2 * bound(engine, "dlpm")


@pytest.mark.parametrize("policy", FAIR)
def test_weights_divide_the_service(policy: str) -> None:
    weights = {"a": 1.0, "b": 2.0, "c": 4.0}
    gaps = Gaps(weights)
    engine = engine_of(policy, weights=weights, watch=gaps)
    rng = random.Random(1)
    for user in weights:
        for _ in range(300):
            engine.receive(some(rng, user, 0.0))
    while {req.user_id for req in engine.waiting_queue} == set(weights):
        engine.step()
    assert gaps.worst <= bound(engine, policy)
    shares = [engine.service[user] / weight for user, weight in weights.items()]
    assert max(shares) - min(shares) <= bound(engine, policy)
    assert engine.service["c"] > 2.5 * engine.service["a"]


@pytest.mark.parametrize("policy", FAIR)
def test_the_device_is_never_kept_waiting(policy: str) -> None:
    """Fairness moves work, it makes none: the same tokens, in about the same steps."""
    ours, theirs = engine_of(policy), engine_of("fcfs")
    trace = flood(3)
    ours.play(trace)
    theirs.play(trace)
    assert ours.idle_rounds == 0
    assert ours.now <= 1.1 * theirs.now


@pytest.mark.slow
@pytest.mark.parametrize("policy", FAIR)
@pytest.mark.parametrize("chunk", [None, 16])
def test_memory_that_runs_out_keeps_the_books_right(policy: str, chunk: int | None) -> None:
    """Retracted requests are computed anew and charged once."""
    engine = engine_of(policy, device=Device(160, 16, chunk, reserve=0.1))
    rng = random.Random(2)
    engine.play([some(rng, "alice", 0.0) for _ in range(200)])
    assert engine.retractions > 0
    tracker = tracker_of(engine)
    list(requests_to_try(engine.policy, [], adder()))
    # Alone she is never lifted, so her counter is her service.
    assert tracker.users["alice"].counter == pytest.approx(engine.service["alice"])
    assert not tracker.tickets
    assert (tracker.users["alice"].waiting, tracker.users["alice"].running) == (0, 0)


@pytest.mark.parametrize("policy", FAIR)
def test_aborts_settle_the_account(policy: str) -> None:
    engine = engine_of(policy, device=Device(600, 16, chunk=16))
    rng = random.Random(4)
    went: Counter[str] = Counter()
    for _ in range(600):
        if rng.random() < 0.5:
            engine.receive(some(rng, f"u{rng.randrange(3)}", engine.now))
        for kind, reqs in {
            "waiting": engine.waiting_queue,
            "running": engine.running_batch.reqs,
            "chunked": [engine.chunked_req] if engine.chunked_req else [],
        }.items():
            if reqs and rng.random() < 0.1:
                engine.abort(rng.choice(reqs))
                went[kind] += 1
        engine.step()
    while engine.busy:
        engine.step()
    list(requests_to_try(engine.policy, [], adder()))
    assert min(went[kind] for kind in ("waiting", "running", "chunked")) > 0
    tracker = tracker_of(engine)
    assert not tracker.tickets
    assert tracker.waiting == 0
    assert all((a.waiting, a.running) == (0, 0) for a in tracker.users.values())


@pytest.mark.parametrize("policy", FAIR)
def test_chunks_that_were_not_computed_are_not_charged(policy: str) -> None:
    engine = engine_of(policy)
    req = engine.receive(Ask(0.0, "alice", range(300), 10))
    engine.step()
    engine.step()
    alice = tracker_of(engine).users["alice"]
    assert (alice.counter, alice.due) == (2 * 64.0, 300.0)
    assert engine.chunked_req is req
    engine.abort(req)
    list(requests_to_try(engine.policy, [], adder()))
    assert (alice.counter, alice.due) == (2 * 64.0, 2 * 64.0)


@pytest.mark.parametrize("policy", FAIR)
def test_cached_tokens_are_charged_as_such(policy: str) -> None:
    engine = engine_of(policy, tenant_cached_weight=0.25, tenant_output_weight=3.0)
    for start in (0.0, 10.0):
        engine.play([Ask(start, "alice", range(40), 5)])
    list(requests_to_try(engine.policy, [], adder()))
    # The second time the last token of the prompt is computed, and one of the answer reused.
    assert tracker_of(engine).users["alice"].counter == (40 + 1) + 39 * 0.25 + 2 * 5 * 3.0


@pytest.mark.parametrize("policy", FAIR)
def test_the_nameless_share_one_account(policy: str) -> None:
    gaps = Gaps()
    engine = engine_of(policy, watch=gaps)
    rng = random.Random(5)
    asks = [some(rng, fresh_anonymous(), 0.0) for _ in range(300)]
    asks += [some(rng, "alice", 0.1) for _ in range(60)]
    engine.play(asks)
    assert gaps.worst <= bound(engine, policy)
    assert set(tracker_of(engine).users) == {SHARED_ANONYMOUS, "alice"}


@pytest.mark.slow
@pytest.mark.parametrize("policy", FAIR)
def test_every_rank_decides_alike(policy: str) -> None:
    """Addresses, and with them the order of sets, differ between the two."""
    orders = []
    for _ in range(2):
        engine = engine_of(policy)
        served = engine.play(flood(7))
        orders.append([(s.ask.user, s.admitted, s.finished, s.cached) for s in served])
    assert orders[0] == orders[1]


@pytest.mark.parametrize("policy", FAIR)
def test_idle_accounts_are_closed(policy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service_tracker, "IDLE_USERS", 20)
    engine = engine_of(policy)
    tracker_of(engine)._look_at = 20
    rng = random.Random(8)
    engine.play([some(rng, f"u{i}", i * 0.2) for i in range(500)])
    assert len(tracker_of(engine).users) <= 50


@pytest.mark.slow
@pytest.mark.parametrize("policy", FAIR)
def test_nothing_grows_with_users_who_are_gone(policy: str) -> None:
    """There are always new ones who wait, so the floor never rises to those who were served."""
    engine = engine_of(policy)
    waiting = 0
    for round_number in range(100):
        for number in range(200):
            engine.receive(Ask(0.0, f"u{round_number}.{number}", [number, number + 1], 1))
        if round_number % 10 == 9:  # whoever has waited for longest gives up
            for req in engine.waiting_queue[:20]:
                engine.abort(req)
        round_of(engine, 200 if round_number else 40)
        waiting = max(waiting, len(engine.waiting_queue))
    engine.served.clear()
    ours = engine.policy
    assert isinstance(ours, (VirtualTokenCounter, DeficitLongestPrefixMatch))
    assert waiting < 200
    assert len(tracker_of(engine).users) <= 2 * (service_tracker.REMEMBERED + 400)
    assert len(tracker_of(engine).tickets) <= 400
    assert len(ours._heap) <= 1000
    if isinstance(ours, DeficitLongestPrefixMatch):
        assert len(ours._sweep) <= 1000
    gc.collect()
    alive = [req for req in gc.get_objects() if type(req) is Req and req.user_id in UNSEEN]
    assert not alive


UNSEEN = {f"u{round_number}.0" for round_number in range(90)}


def test_who_had_no_turn_for_longest_is_forgotten_first() -> None:
    tracker = ServiceTracker(TrackerPrices(1.0, 1.0, 1.0), {})
    for number in range(3 * service_tracker.REMEMBERED):
        tracker.users[f"u{number}"] = UserService(1.0, counter=9.0, last_admission=number + 1)
    floor = UserService(1.0, counter=0.0, waiting=1)
    tracker.users["waits"] = floor
    tracker.users["behind"] = UserService(1.0, counter=4.0, last_admission=10**9)
    tracker.close_idle(5.0, None)
    last = range(2 * service_tracker.REMEMBERED, 3 * service_tracker.REMEMBERED)
    assert set(tracker.users) == {"waits", *(f"u{number}" for number in last)}


def test_longest_match_goes_first_while_there_is_deficit() -> None:
    engine = engine_of("dlpm")
    engine.play([Ask(0.0, "alice", range(40), 2)])
    asks = [Ask(1.0, "alice", [*range(9_000, 9_020)], 2), Ask(1.0, "alice", range(40), 2)]
    first = [engine.receive(ask) for ask in asks]
    assert next(iter(requests_to_try(engine.policy, engine.waiting_queue, adder()))) is first[1]


def test_locality_of_dlpm_lies_between_lpm_and_vtc() -> None:
    """Users whose requests begin alike in turn, and too little memory to keep all beginnings."""
    rng = random.Random(9)
    asks = []
    for number in range(240):
        user = f"u{number % 8}"
        beginning = [hash_of(f"{user}.{number // 8 % 3}", i) for i in range(60)]
        asks.append(Ask(0.0, user, [*beginning, rng.randrange(1 << 30)], 4))
    cached = {}
    for policy in ("vtc", "dlpm"):
        engine = engine_of(policy, device=Device(memory=700, running=4, chunk=None))
        cached[policy] = sum(s.cached for s in engine.play(asks))
    assert cached["dlpm"] > 1.2 * cached["vtc"]


class Adder:
    """Stands for PrefillAdder where a test says itself who is admitted."""

    rem_chunk_tokens = None

    def __init__(self) -> None:
        self.can_run_list: list[Req] = []

    def add(self, req: Req) -> None:
        req.set_extend_range(0, len(req.origin_input_ids))
        self.can_run_list.append(req)


def adder() -> Any:
    return Adder()


def tracker_of(engine: Engine) -> Any:
    assert isinstance(engine.policy, FairPolicy)
    return engine.policy.tracker


@pytest.mark.parametrize("policy", FAIR)
def test_who_is_passed_over_is_offered_once_a_round(policy: str) -> None:
    engine = engine_of(policy)
    rng = random.Random(6)
    reqs = [engine.receive(some(rng, f"u{i % 3}", 0.0)) for i in range(12)]
    for _ in range(2):
        offered = list(requests_to_try(engine.policy, engine.waiting_queue, adder()))
        assert len(offered) == 12
        assert set(offered) == set(reqs)
    taken = adder()
    for req in requests_to_try(engine.policy, engine.waiting_queue, taken):
        if req in reqs[3:6]:
            taken.add(req)
    engine.waiting_queue = [req for req in engine.waiting_queue if req not in taken.can_run_list]
    assert set(requests_to_try(engine.policy, engine.waiting_queue, adder())) == set(reqs) - set(
        reqs[3:6]
    )


def test_a_loop_that_is_left_books_its_last_turn() -> None:
    engine = engine_of("vtc")
    rng = random.Random(6)
    for _ in range(2):
        engine.receive(some(rng, "alice", 0.0))
    taken = adder()
    for req in requests_to_try(engine.policy, engine.waiting_queue, taken):
        taken.add(req)
        break
    assert tracker_of(engine).users["alice"].counter == len(req.origin_input_ids)
    assert tracker_of(engine).waiting == 1


class PlainCounter(VirtualTokenCounter):
    """The paper's line: the least counter, then who had no turn for longest, then the oldest
    request. Looks at everybody."""

    def _choose(self) -> Ticket | None:
        heads = [
            t
            for t in self.tracker.tickets.values()
            if t.waiting and t in t.user.queue and t.user is not self._excluded
        ]
        return min(
            heads, key=lambda t: (t.user.due, t.user.last_admission, t.arrival), default=None
        )


class PlainDeficit(DeficitLongestPrefixMatch):
    """The longest match among those with deficit left. Looks at everybody."""

    def _choose(self) -> Ticket | None:
        here = [
            t
            for t in self.tracker.tickets.values()
            if t.waiting and t.rank is not None and t.user is not self._excluded
        ]
        if not here:
            return None
        while not any(t.user.due < self._level for t in here):
            self._level += self._quantum
        able = [t for t in here if t.user.due < self._level]
        return min(able, key=lambda t: (t.rank[0], t.arrival))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("policy", "plain"), [("vtc", PlainCounter), ("dlpm", PlainDeficit)])
def test_heaps_choose_as_a_look_at_everybody_does(policy: str, plain: Any, seed: int) -> None:
    orders = []
    for kind in (None, plain):
        engine = engine_of(policy, device=Device(200, 8, 32, reserve=0.1))
        if kind:
            engine.policy.__class__ = kind
        rng = random.Random(seed)
        gone = random.Random(seed)
        order: list[tuple[str, int]] = []
        for _ in range(700):
            if rng.random() < 0.4:
                engine.receive(some(rng, f"u{rng.randrange(9)}", engine.now))
            engine.step()
            if engine.waiting_queue and gone.random() < 0.05:
                engine.abort(gone.choice(engine.waiting_queue))
            order += [(r.rid, len(r.output_ids)) for r in engine.running_batch.reqs]
        assert engine.retractions > 0
        orders.append(order)
    assert orders[0] == orders[1]


@pytest.mark.slow
@pytest.mark.parametrize("policy", FAIR)
def test_a_round_costs_the_same_however_many_wait(policy: str) -> None:
    """Counted in calls of Python functions, once everybody has been seen."""
    calls = {}
    for waiting in (1_000, 10_000):
        engine = engine_of(policy)
        rng = random.Random(1)
        for number in range(waiting):
            engine.receive(some(rng, f"u{number % (waiting // 10)}", 0.0))
        for _ in range(3):
            round_of(engine)
        calls[waiting] = calls_of(engine)
    assert calls[10_000] <= 1.2 * calls[1_000]


def round_of(engine: Engine, admitted: int = 16) -> None:
    taken = adder()
    for req in requests_to_try(engine.policy, engine.waiting_queue, taken):
        req.req_pool_idx = 1
        taken.add(req)
        if len(taken.can_run_list) == admitted:
            break
    gone = set(taken.can_run_list)
    engine.waiting_queue = [req for req in engine.waiting_queue if req not in gone]
    for req in gone:
        req.req_pool_idx, req.extend_range = None, None


def calls_of(engine: Engine) -> int:
    calls = 0

    def count(frame: FrameType, event: str, arg: Any) -> None:
        nonlocal calls
        calls += event == "call"

    sys.setprofile(count)
    try:
        round_of(engine)
    finally:
        sys.setprofile(None)
    return calls


def test_an_account_in_two_entries_does_not_break_a_heap() -> None:
    one, other = UserService(1.0), UserService(1.0)
    assert not one < other
    assert not other < one
