"""The plays as a state machine: hypothesis draws the steps, and shortens a list that fails."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import ClassVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from support.engine import Setting
from support.play import (
    DETECTORS,
    IDLE_TTLS,
    PAGES,
    POLICIES,
    SHARES,
    SPEC,
    STEPS,
    TIGHT,
    Play,
    Step,
)


@st.composite
def any_setting(draw: st.DrawFn) -> Setting:
    page = draw(st.sampled_from(PAGES))
    host = draw(st.sampled_from((True, True, True, False)))
    setting = Setting(
        page_size=page,
        host=host,
        overlap=draw(st.booleans()),
        storage=host and draw(st.booleans()),
        prefetch_policy=draw(st.sampled_from(("best_effort", "wait_complete"))),
        mode=draw(st.sampled_from(("selective",) * 6 + ("isolated", "shared"))),
        public_users=draw(st.sampled_from((2, 3))),
        epoch_requests=draw(st.sampled_from((4, 8, 1024))),
        rdr_threshold=draw(st.sampled_from((0.0, 0.6, 0.8))),
        rdr_min_hits=draw(st.sampled_from((3, 5))),
        detector=draw(st.sampled_from(DETECTORS)),
        write_policy=draw(st.sampled_from(POLICIES)),
    )
    setting = replace(setting, shares=draw(st.sampled_from(SHARES)))
    if draw(st.sampled_from((True, True, False))):
        tight = draw(st.sampled_from(TIGHT[page]))
        ratio = draw(st.sampled_from((1.3, 3.0)))
        setting = replace(setting, device_tokens=tight, host_ratio=ratio)
    return replace(setting, idle_ttl=draw(st.sampled_from(IDLE_TTLS)))


def steps_named(name: str) -> st.SearchStrategy[Step]:
    bounds = STEPS[name][1]
    numbers = [st.integers(0, bound - 1) for bound in bounds]
    if bounds is not SPEC:
        return st.tuples(st.just(name), *numbers)
    symbols = st.lists(st.integers(0, 1), max_size=4).map(tuple)
    return st.tuples(st.just(name), *numbers, symbols)


ANY_STEP: st.SearchStrategy[Step] = st.sampled_from(
    [name for name, (weight, _) in STEPS.items() for _ in range(weight)]
).flatmap(steps_named)


class Plays(RuleBasedStateMachine):
    """After each step the tree shows what the model says, and every slot is in one place."""

    reached: ClassVar[Counter[str]] = Counter()  # what happened in all plays together

    @initialize(setting=any_setting())
    def begin(self, setting: Setting) -> None:
        self.play = Play(setting)
        self.evicts = setting.device_tokens != Setting.device_tokens

    @rule(step=ANY_STEP)
    def step(self, step: Step) -> None:
        if self.evicts or not step[0].startswith("evict"):
            self.play.do(step)

    def teardown(self) -> None:
        if not hasattr(self, "play"):
            return
        self.play.end()
        self.reached.update(self.play.engine.cache.counts)
        self.reached["steps"] += self.play.steps
        self.reached["loaded"] += self.play.engine.loaded
        self.reached["evictions"] += self.play.evictions
        self.reached["over_share"] += self.play.over_share
        self.reached["late_verdicts"] += self.play.late
        self.reached["fetched"] += self.play.fetched


def many(plays: int, steps: int, *, anew: bool = False) -> settings:
    """So many plays of so many steps. ``anew``: others each time."""
    return settings(
        max_examples=plays,
        stateful_step_count=steps,
        derandomize=not anew,
        database=None,
        deadline=None,
        print_blob=True,
        suppress_health_check=list(HealthCheck),
    )
