"""One server after another, each with one thing changed: every answer must be the model's.

Conversations of many users run into each other on a pool that is too small for them: prefixes are
written through to the host, evicted and loaded back layer by layer while others decode, become
public, are merged, cease to be public, and are erased, all under requests that still use them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from support.gpu.cases import CASES, DEMO, LATENT, PAGE, Case
from support.gpu.device import Device
from support.gpu.judge import Judge, calibrated
from support.gpu.servers import POOL, Running, running, without_cache
from support.latent import SERVED, make_latent_model
from support.patience import until
from support.prompts import fresh_prompt, fresh_user
from support.sharing import check_sharing
from support.storm import Exchange, storm

pytestmark = pytest.mark.server

EVENTS = ("promotions", "demotions", "merges", "freed_duplicates", "logical_frees")
STORMS = {"cuda": 6, "cpu": 1}  # a GPU has one done in seconds
Engine = tuple[str, tuple[str, ...]]  # a model, and flags that numbers depend on


@pytest.fixture(scope="session")
def models(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return the folder of each model."""
    latent = tmp_path_factory.mktemp("latent")
    make_latent_model(latent, tiny_model, SERVED)
    return {DEMO: tiny_model, LATENT: latent}


class Judges:
    """The server without a cache that fits a case, and how exact it is: one at a time."""

    def __init__(self, device: Device, models: dict[str, Path]) -> None:
        self._device, self._models = device, models
        self._server = ExitStack()
        self._judge: tuple[Engine, Judge] | None = None

    def of(self, case: Case) -> Judge:
        """Start the server where the last one was another."""
        engine = case.model, case.engine
        if self._judge is None or self._judge[0] != engine:
            self.close()
            starting = without_cache(case.engine, self._device, self._models[case.model])
            self._judge = engine, calibrated(self._server.enter_context(starting))
        return self._judge[1]

    def close(self) -> None:
        """End the server."""
        self._server.close()
        self._judge = None


@pytest.fixture(scope="module")
def judges(device: Device, models: dict[str, Path]) -> Iterator[Judges]:
    found = Judges(device, models)
    yield found
    found.close()


@pytest.fixture(scope="module", params=CASES, ids=lambda case: case.name)
def on(
    request: pytest.FixtureRequest,
    device: Device,
    models: dict[str, Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Running]:
    """Run the server of one case, where the device has what it needs."""
    case: Case = request.param
    if reason := case.lacks(device):
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("watch")
    with running(case, device, models[case.model], folder) as found:
        yield found


def check_ranks(on: Running) -> None:
    """All ranks have decided the same up to now."""
    last = on.watch.steps(0)[-1]["step"]
    until(lambda: on.watch.steps(1)[-1]["step"] >= last, "the second rank has come so far")
    first, second = ([s for s in on.watch.steps(rank) if s["step"] <= last] for rank in (0, 1))
    assert len({step["digest"] for step in first}) > 100
    assert first == second


def test_wrong_pages_loaded_back_are_seen(
    device: Device, judges: Judges, models: dict[str, Path], tmp_path: Path
) -> None:
    """Or nothing below would prove much on this device."""
    case = next(case for case in CASES if not case.lacks(device) and case.page == PAGE)
    judge = judges.of(case)
    with running(case, device, models[DEMO], tmp_path, "support.gpu.spoil:start") as on:
        exchanges = storm(on.asker, 0, on.pool)
    answers = [(list(each.prompt.encode()), each.reply["output_ids"]) for each in exchanges]
    with pytest.raises(AssertionError, match="are not the model's"):
        judge.check(answers)


def test_every_answer_is_the_models(
    on: Running, judges: Judges, device: Device, record_property: Callable[[str, Any], None]
) -> None:
    judge, before = judges.of(on.case), dict(on.watch.counts)
    record_property("measure", judge.measure.name)
    record_property("rounding", judge.noise)
    record_property("wrong prompt", judge.wrong)
    if device.on_cuda:
        assert ("CUDA graph begin" in on.server.log) == on.case.graphs
    erased: list[str] = []

    def erase(users: list[str]) -> None:
        """Of those who are being served: who it is changes from round to round."""
        user = users[len(erased) % len(users)]
        on.operator.json("DELETE", f"/tenant/users/{user}/cache")
        erased.append(user)

    exchanges: list[Exchange] = []
    for seed in range(STORMS[device.kind]):
        exchanges += storm(on.asker, seed, on.pool, meanwhile=erase)
    judge.check([(list(each.prompt.encode()), each.reply["output_ids"]) for each in exchanges])
    assert erased
    assert any(each.from_host for each in exchanges), "nothing was loaded back"
    missing = [e for e in EVENTS if on.watch.counts.get(e, 0) <= before.get(e, 0)]
    assert not missing, f"never happened, so this proves little: {missing}"
    if on.case.ranks > 1:
        check_ranks(on)


def test_a_private_prefix_comes_back_from_the_host_to_its_owner_alone(
    on: Running, judges: Judges
) -> None:
    judge, asker = judges.of(on.case), on.asker
    asker.empty_cache()
    prompt, alice = fresh_prompt(512), fresh_user("alice")
    first = asker.generate(text=prompt, user_id=alice)
    for _ in range(2 * POOL // 400):
        asker.generate(text=fresh_prompt(400), user_id=fresh_user())
    # The stranger first: what lies on the host is no more theirs than what is on the device.
    stranger = asker.generate(text=prompt, user_id=fresh_user())
    assert stranger["meta_info"]["cached_tokens"] < max(12, on.case.page)
    back = asker.generate(text=prompt, user_id=alice)
    assert back["meta_info"]["cached_tokens_details"]["host"] >= 512 - 2 * on.case.page - 64
    ids = list(prompt.encode())
    judge.check([(ids, reply["output_ids"]) for reply in (first, stranger, back)])


def test_three_users_make_a_prefix_public(on: Running) -> None:
    on.asker.empty_cache()
    check_sharing(on.asker, on.case.page)
