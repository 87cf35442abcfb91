"""Token by token what a server without a cache says, where numbers do not depend on the batch.

``--enable-deterministic-inference`` makes upstream's kernels add up in one order whatever the
batch, and with some attention backends whatever was cached. Then no rounding has to be allowed
for. On a CPU the plain kernels, in float32, do as well.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from support.asks import sampling
from support.gpu.cases import BACKENDS, EXACT_BACKENDS, Case
from support.gpu.device import Device, cuda
from support.gpu.servers import running, without_cache
from support.storm import Exchange, storm

pytestmark = pytest.mark.server

EXACT = (
    *(
        Case(
            f"deterministic, attention by {name}",
            engine=("--attention-backend", name, "--enable-deterministic-inference"),
            needs=(cuda("deterministic inference"), *BACKENDS[name]),
        )
        for name in EXACT_BACKENDS
    ),
    Case(
        "float32 on a CPU",
        needs=(lambda device: "numbers of a GPU depend on the batch" if device.on_cuda else "",),
    ),
)


@pytest.mark.parametrize("case", EXACT, ids=lambda case: case.name)
def test_the_same_tokens_as_without_a_cache(
    case: Case, device: Device, tiny_model: Path, tmp_path: Path
) -> None:
    if reason := case.lacks(device):
        pytest.skip(reason)
    with (
        without_cache(case.engine, device, tiny_model) as plain,
        running(case, device, tiny_model, tmp_path) as on,
    ):
        exchanges = storm(on.asker, 1, on.pool)

        def anew(exchange: Exchange) -> Any:
            tokens = sampling(len(exchange.reply["output_ids"]))
            return plain.generate(text=exchange.prompt, sampling_params=tokens)["output_ids"]

        with ThreadPoolExecutor(8) as threads:
            told = list(threads.map(anew, exchanges))
    assert any(exchange.from_host for exchange in exchanges)
    different = sum(a != b.reply["output_ids"] for a, b in zip(told, exchanges, strict=True))
    assert different == 0, f"{different} of {len(told)} answers differ"
