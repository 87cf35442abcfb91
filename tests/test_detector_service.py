"""Which prompts the detector is offered, of those that leave for the scheduler."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from support.tokenized import tokenized

from sglang.srt.managers.io_struct import SessionParams
from sglang.srt.tenancy.detect import service, wire
from sglang.srt.tenancy.detect.pipeline import Pipeline

VOCABULARY = [bytes([code]) for code in range(256)]


@pytest.fixture
async def pipeline(monkeypatch: pytest.MonkeyPatch) -> Pipeline:
    """It takes prompts, and reads none: it was not started."""
    pipeline = Pipeline(wire.Setup(VOCABULARY, None, excerpts=False))
    monkeypatch.setattr(service, "_pipeline", pipeline)
    return pipeline


def offered(pipeline: Pipeline, **fields: Any) -> int:
    """How many prompts the detector gets of this request."""
    request = tokenized(**fields)
    before = pipeline.counts["offered"]
    service.offer_to_detector(SimpleNamespace(rid_to_state={"r": object()}), request)
    return pipeline.counts["offered"] - before


async def test_a_prompt_is_offered(pipeline: Pipeline) -> None:
    assert offered(pipeline) == 1


@pytest.mark.parametrize("scope", ["private", "none"])
async def test_what_stays_private_is_not(pipeline: Pipeline, scope: str) -> None:
    assert offered(pipeline, cache_scope=scope) == 0


async def test_of_a_session_only_the_first_request_is(pipeline: Pipeline) -> None:
    """The scheduler puts the earlier tokens before the others: theirs begin nowhere near 0."""
    assert offered(pipeline, session_params=SessionParams(id="s")) == 1
    assert offered(pipeline, session_params=SessionParams(id="s", rid="first")) == 0
    cut = SessionParams(id="s", rid="first", offset=10)
    assert offered(pipeline, session_params=cut) == 0
    replaced = SessionParams(id="s", rid="first", replace=True)
    assert offered(pipeline, session_params=replaced) == 0
