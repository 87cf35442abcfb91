"""The queue and its process: bounded, and whatever fails, no result is given."""

from __future__ import annotations

import os
import signal
from array import array
from dataclasses import replace
from pathlib import Path

import pytest
from support.detector import BYTES, Delivered, Found, running, until

from sglang.srt.tenancy.detect import wire
from sglang.srt.tenancy.detect.judge import parse
from sglang.srt.tenancy.detect.pipeline import Limits, Pipeline, Prompt
from sglang.srt.tenancy.worker import process

HARMLESS = "words " * 50
CARD = f"{HARMLESS}4012 8888 8888 1881 {HARMLESS}"
HINT = f"{HARMLESS}She was diagnosed with cancer. {HARMLESS}"


async def test_results_arrive() -> None:
    delivered = Delivered()
    async with running() as pipeline:
        for text in (HARMLESS, CARD):
            pipeline.offer(delivered.prompt(text))
        await until(lambda: len(delivered.results) == 2)
    assert delivered.results[HARMLESS] == (len(HARMLESS) - 64, None)
    assert delivered.results[CARD] == (len(HARMLESS), len(HARMLESS))
    assert pipeline.counts["judged"] == 2
    assert pipeline.kinds["card"] == 1


async def test_the_process_loads_no_engine() -> None:
    async with running() as pipeline:
        await until(lambda: pipeline.stats()["running"])
        maps = Path(f"/proc/{pipeline.stats()['pid']}/maps").read_text()
    assert "torch" not in maps


async def test_a_full_queue_gives_up_the_oldest() -> None:
    delivered = Delivered()
    pipeline = Pipeline(wire.Setup(BYTES, None, False), None, Limits(prompts=2, tokens=1000))
    texts = [f"{number} {HARMLESS}" for number in range(4)]
    for text in texts:  # nobody takes them yet
        pipeline.offer(delivered.prompt(text))
    assert pipeline.counts["dropped"] == 2
    pipeline.offer(delivered.prompt("long " * 150))
    assert pipeline.stats()["queued"] == 1
    pipeline.offer(delivered.prompt("longest " * 500))
    assert pipeline.stats() | {"queued": 0, "queued_tokens": 0} == pipeline.stats()
    pipeline.offer(delivered.prompt(texts[3]))
    pipeline.start()
    await until(lambda: delivered.results)
    await pipeline.stop()
    assert set(delivered.results) == {texts[3]}


async def test_an_erased_users_prompts_are_forgotten() -> None:
    delivered = Delivered()
    pipeline = Pipeline(wire.Setup(BYTES, None, False), None, Limits())
    for text, user in ((HARMLESS, "ann"), (CARD, "ben")):  # nobody takes them yet
        pipeline.offer(replace(delivered.prompt(text), user=user))
    assert pipeline.forget("ann") == 1
    assert pipeline.stats()["queued_tokens"] == len(CARD)
    pipeline.start()
    await until(lambda: delivered.results)
    assert pipeline.forget("ben") == 0
    pipeline.offer(replace(delivered.prompt(HARMLESS), user="ann"))
    assert pipeline.forget("ann") == 1
    await until(lambda: pipeline.stats()["running"])
    pipeline.offer(delivered.prompt("last " * 50))
    await until(lambda: len(delivered.results) == 2)
    await pipeline.stop()
    assert HARMLESS not in delivered.results
    assert not pipeline.counts["crashes"]


async def test_a_killed_process_is_replaced() -> None:
    delivered = Delivered()
    async with running() as pipeline:
        await until(lambda: pipeline.stats()["running"])
        first = pipeline.stats()["pid"]
        assert isinstance(first, int)
        os.kill(first, signal.SIGKILL)
        await until(lambda: pipeline.counts["crashes"] == 1)
        pipeline.offer(delivered.prompt(HARMLESS))
        await until(lambda: delivered.results)
        assert pipeline.stats()["pid"] != first


@pytest.mark.slow
async def test_a_batch_that_hangs_is_lost_and_the_next_is_scanned() -> None:
    delivered = Delivered()
    async with running(limits=Limits(first_pause=0.01, batch_seconds=5.0)) as pipeline:
        await until(lambda: pipeline.stats()["running"])
        stopped = pipeline.stats()["pid"]
        assert isinstance(stopped, int)
        os.kill(stopped, signal.SIGSTOP)
        pipeline.offer(delivered.prompt(CARD))
        await until(lambda: pipeline.counts["crashes"] == 1)
        assert pipeline.counts["lost"] == 1
        pipeline.offer(delivered.prompt(HARMLESS))
        await until(lambda: delivered.results)
    assert set(delivered.results) == {HARMLESS}


async def test_a_process_that_cannot_start_gives_no_result(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    broken = tmp_path / "worker.py"
    broken.write_text("raise SystemExit(3)")
    delivered = Delivered()
    with monkeypatch.context() as patch:
        patch.setattr(process, "SCRIPT", broken)
        async with running() as pipeline:
            pipeline.offer(delivered.prompt(HARMLESS))
            await until(lambda: pipeline.counts["crashes"] >= 3)
            assert not delivered.results
            patch.undo()
            await until(lambda: delivered.results)


async def test_without_text_there_is_no_result() -> None:
    delivered = Delivered()

    async def deliver(harmless: int, sensitive: int | None) -> None:
        delivered.results["image"] = (harmless, sensitive)

    async with running() as pipeline:
        pipeline.offer(Prompt(array("q", [1, 2, 1_000_000] * 50), deliver))
        pipeline.offer(delivered.prompt(HARMLESS))
        await until(lambda: delivered.results)
    assert set(delivered.results) == {HARMLESS}
    assert pipeline.counts["without_text"] == 1


class Says:
    """A judge that always says the same."""

    def __init__(self, answer: bool | Exception | None) -> None:
        self.answer = answer
        self.asked: list[str] = []

    async def is_sensitive(self, excerpt: str) -> bool | None:
        self.asked.append(excerpt)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


AT = len(HARMLESS)
WHAT_THE_JUDGE_DECIDES: list[tuple[bool | Exception | None, Found]] = [
    (False, (len(HINT) - 64, None)),
    (True, (AT, AT)),
    (None, (AT, None)),
    (RuntimeError("out of memory"), (AT, None)),
]


@pytest.mark.parametrize(("answer", "result"), WHAT_THE_JUDGE_DECIDES)
async def test_the_judge_decides_what_is_open(
    answer: bool | Exception | None, result: Found
) -> None:
    delivered, judge = Delivered(), Says(answer)
    async with running(judge) as pipeline:
        for text in (HARMLESS, CARD, HINT):
            pipeline.offer(delivered.prompt(text))
        await until(lambda: len(delivered.results) == 3)
    assert delivered.results[HINT] == result
    assert len(judge.asked) == 1
    assert "She was diagnosed" in judge.asked[0]


async def test_without_a_judge_what_is_open_stays_private() -> None:
    delivered = Delivered()
    async with running() as pipeline:
        pipeline.offer(delivered.prompt(HINT))
        await until(lambda: delivered.results)
    assert delivered.results[HINT] == (AT, None)


@pytest.mark.parametrize(
    ("reply", "answer"),
    [
        ("Yes.", True),
        (" no", False),
        ("是的", True),
        ("**No**", False),
        ("<think>", None),
        ("", None),
    ],
)
def test_answers(reply: str, answer: bool | None) -> None:
    assert parse(reply) is answer
