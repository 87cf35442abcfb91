"""Who needs less than their fair share of memory finds all of it, whatever the others do.

The promise is written down in docs/fairness.md, "Memory".
"""

from __future__ import annotations

import random
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.engine import Setting
from support.neighbours import (
    KINDS,
    LONGEST,
    MOST_RUNNING,
    SMALL,
    Street,
    document,
    tokens,
)
from support.trees import start_group

from sglang.srt.tenancy.cache.core.node import PUBLIC

DEVICE = 1200
ROUNDS = 6
STORM = 40  # requests of neighbours in a round, up to 1.5 times the device

checked = settings(
    max_examples=40,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture(autouse=True, scope="module")
def _group(tmp_path_factory: pytest.TempPathFactory) -> None:
    start_group(tmp_path_factory.mktemp("group"))


def setting_of(host: bool, page: int, weights: Mapping[str, float]) -> Setting:
    return Setting(host=host, page_size=page, weights=weights, device_tokens=DEVICE, host_ratio=3.0)


def fair_share(setting: Setting, kinds: Sequence[str]) -> int:
    """Tokens of one tier that are the small user's, whatever the others ask for."""
    names = [SMALL, *(f"{kind}{n}" for n, kind in enumerate(kinds) if kind != "visitors")]
    weights = [setting.weights.get(name, 1.0) for name in names]
    # What requests use cannot be given; on the host, what the device has, too.
    in_use = (MOST_RUNNING + 2) * (LONGEST + 2 * setting.page_size)
    memory = setting.device_tokens - in_use
    if setting.host:
        memory = int(setting.device_tokens * setting.host_ratio) - setting.device_tokens
    public = setting.weights.get(PUBLIC, 1.0) if "reader" in kinds else 0.0
    # Half of it goes for nobody. All of it goes for nobody who holds more of a segment; but
    # visitors have no share at all, and readers may hold less in each of the two.
    promised = 0.5 if {"visitors", "reader"} & set(kinds) else 1.0
    return int(promised * memory * weights[0] / sum(weights) / (1 + public))


def prompts_of(total: int, reads: bool, page: int) -> list[array[int]]:
    """A working set of less than so many tokens. ``reads``: one begins as the readers' do."""
    prompts: list[array[int]] = []
    while total > 2 * page:
        length = min(total - 1, 60) // page * page
        start = document(0) if reads and not prompts and length > 55 else array("q")
        number = 500_000 + len(prompts)
        prompts.append((start + tokens(number, length))[:length])
        total -= length
    return prompts


weight = st.sampled_from((0.5, 1.0, 1.0, 3.0))


@pytest.mark.slow
@checked
@given(
    seed=st.integers(0, 1 << 30),
    host=st.booleans(),
    page=st.sampled_from((1, 4)),
    kinds=st.lists(st.sampled_from(KINDS), min_size=1, max_size=4),
    ours=weight,
    theirs=weight,
    public=st.sampled_from((1.0, 0.5)),
)
def test_who_needs_less_than_their_share_misses_nothing(
    seed: int,
    host: bool,
    page: int,
    kinds: list[str],
    ours: float,
    theirs: float,
    public: float,
) -> None:
    weights = {SMALL: ours, f"{kinds[0]}0": theirs, PUBLIC: public}
    setting = setting_of(host, page, weights)
    prompts = prompts_of(fair_share(setting, kinds), "reader" in kinds, page)
    street = Street(setting, prompts, kinds)
    street.play(random.Random(seed), ROUNDS, STORM)
    assert street.asked > 0
    assert street.missed == 0


@pytest.mark.slow
@pytest.mark.parametrize("host", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_upstream_forgets_them_on_the_same_trace(kind: str, host: bool) -> None:
    """Or the test above would prove nothing."""
    kinds = [kind] * 2
    setting = setting_of(host, 1, {})
    prompts = prompts_of(fair_share(setting, kinds), reads=False, page=1)
    missed = []
    for ours in (True, False):
        street = Street(replace(setting, ours=ours), prompts, kinds)
        street.play(random.Random(1), 3, 600)
        missed.append(street.missed / street.asked)
    assert missed[0] == 0
    assert missed[1] > 0.5


@pytest.mark.parametrize("host", [False, True])
def test_what_is_above_the_share_is_not_promised(host: bool) -> None:
    """The share is what it says: with three times as much, something is forgotten."""
    kinds = ["scanner"] * 3
    setting = setting_of(host, 1, {})
    street = Street(setting, prompts_of(3 * fair_share(setting, kinds), False, 1), kinds)
    street.play(random.Random(1), 3, 160)
    assert street.missed > 0


@pytest.mark.parametrize("host", [False, True])
def test_what_is_public_takes_no_more_than_its_share(host: bool) -> None:
    """Readers who would fill all memory with it."""
    setting = setting_of(host, page=1, weights={})
    kinds = ["reader"] * 3
    street = Street(setting, prompts_of(fair_share(setting, kinds), True, 1), kinds)
    street.play(random.Random(1), ROUNDS, 6 * STORM)
    assert street.missed == 0
    cache = street.engine.cache
    assert cache.core.counts["promotions"] > 20
    assert cache.core.device.order.sizes[PUBLIC] > DEVICE / 3
