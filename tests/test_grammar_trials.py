"""Grammars are tried in a process apart: what they do there, whom they delay, what is kept."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import demo_model
import psutil
import pytest
from support.grammars import HONEST, HOSTILE
from transformers import PreTrainedTokenizerFast

from sglang.srt.tenancy.errors import RequestError
from sglang.srt.tenancy.grammar import log, scheduler_cache, wire
from sglang.srt.tenancy.grammar.calls import CompilerCalls, NoGrammars
from sglang.srt.tenancy.grammar.trials import GrammarTrials, TrialBounds

SLOW = ("regex", "(([a-z]*)*([0-9]*)*)*" * 200)
# Far from what the good ones need, however slow the machine is.
PATIENT = TrialBounds(seconds=20.0, step_seconds=5.0, memory=128 << 20)


@pytest.fixture(scope="module")
def calls() -> CompilerCalls:
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=demo_model.make_tokenizer())
    manager = SimpleNamespace(
        tokenizer=tokenizer,
        model_config=SimpleNamespace(
            vocab_size=demo_model.VOCABULARY,
            hf_eos_token_id={demo_model.token_id(demo_model.END)},
        ),
        server_args=SimpleNamespace(constrained_json_disable_any_whitespace=False),
    )
    return CompilerCalls(manager)


@asynccontextmanager
async def trying(
    calls: CompilerCalls, bounds: TrialBounds = PATIENT
) -> AsyncIterator[GrammarTrials]:
    trials = GrammarTrials(lambda: calls, bounds)
    try:
        yield trials
    finally:
        await trials.stop()


async def refusal(trials: GrammarTrials, user: str, field: str, grammar: str) -> RequestError:
    with pytest.raises(RequestError) as error:
        await trials.check(user, field, grammar)
    assert error.value.param == field
    assert str(error.value).startswith(f"{field}: ")
    return error.value


def counts(trials: GrammarTrials) -> dict[str, int]:
    return dict(trials.counts)


def pid(trials: GrammarTrials) -> int:
    found = trials.stats()["pid"]
    assert isinstance(found, int)
    return found


async def test_good_ones_pass_and_are_remembered(calls: CompilerCalls) -> None:
    async with trying(calls) as trials:
        assert trials.stats()["pid"] is None  # started by the first one
        for field, grammar in HONEST.values():
            await trials.check("ann", field, grammar)
        tried = counts(trials)
        assert tried == {"tried": len(HONEST)}
        for field, grammar in HONEST.values():
            await trials.check("ann", field, grammar)
        assert counts(trials) == tried | {"remembered": len(HONEST)}


async def test_the_process_is_small(calls: CompilerCalls) -> None:
    async with trying(calls) as trials:
        await trials.check("ann", *HONEST["schema"])
        process = psutil.Process(pid(trials))
        maps = Path(f"/proc/{process.pid}/maps").read_text()
        assert "libtorch" not in maps
        assert process.num_threads() == 1  # it forks
        assert process.memory_info().rss < 150 << 20
        assert not process.children()


@pytest.mark.slow
async def test_hostile_ones_are_refused_and_the_process_stays(calls: CompilerCalls) -> None:
    bounds = TrialBounds(seconds=20.0, step_seconds=0.05, memory=128 << 20)
    async with trying(calls, bounds) as trials:
        await trials.check("ann", *HONEST["schema"])
        first = pid(trials)
        for name, (field, grammar, said) in HOSTILE.items():
            error = await refusal(trials, "eve", field, grammar)
            assert error.status_code == 400, name
            assert said in str(error), (name, str(error))
        assert pid(trials) == first
        assert psutil.Process(first).memory_info().rss < 150 << 20
        assert "restarts" not in trials.counts


async def test_what_is_no_text_is_refused(calls: CompilerCalls) -> None:
    async with trying(calls) as trials:
        assert (await refusal(trials, "eve", "regex", "\ud800")).status_code == 400
        assert trials.stats()["pid"] is None


async def test_a_slow_one_ends_by_its_cpu_time(calls: CompilerCalls) -> None:
    async with trying(calls, TrialBounds(seconds=0.2, step_seconds=600.0)) as trials:
        assert "more than 0.2 s to compile" in str(await refusal(trials, "eve", *SLOW))
        await refusal(trials, "eve", *SLOW)
        assert counts(trials) == {"tried": 1, "slow": 1, "remembered": 1}


class Faulty:
    """Calls that no compiler knows."""

    def __init__(self) -> None:
        self.vocabulary = [bytes([value]) for value in range(256)]
        self.add_prefix_space = False
        self.stop_tokens = [0]
        self.override_stop_tokens: list[int] | None = None

    def call(self, field: str, grammar: str) -> wire.Compile:
        return wire.Compile("compile_regex", [grammar, *["too many"] * 9])


async def test_a_call_that_the_compiler_does_not_know_is_refused() -> None:
    trials = GrammarTrials(Faulty)
    assert "cannot be compiled" in str(await refusal(trials, "eve", "regex", "a"))
    await trials.stop()


def test_what_a_crash_leaves_is_a_verdict() -> None:
    """In a process of its own, which forks: with a compiler that breaks."""
    program = """
import os, sys
sys.path.insert(0, sys.argv[1])
import main
main._without_the_engine()
from sglang.srt.tenancy.grammar import walk, wire, worker

class Breaks:
    vocabulary_size = 1
    def compile(self, method, arguments):
        if method == "signal":
            os.kill(os.getpid(), arguments[0])
        if method == "exit":
            os._exit(arguments[0])
        if method == "address":
            worker.ctypes.string_at(0)
        if method == "memory":
            held = bytearray(1 << 30)
        while True:
            pass

setup = wire.Setup([], False, [], None, 0.2, 1.0, 64 << 20, 30.0)
for method, argument in [("signal", 11), ("signal", 6), ("exit", 3), ("address", 0), ("memory", 0),
                         ("loop", 0)]:
    print(worker._try_apart(Breaks(), setup, wire.Compile(method, [argument])).fault)
"""
    from subprocess import run
    from sys import executable

    from sglang.srt.tenancy.worker import process

    ended = run(
        [executable, "-c", program, str(process.SCRIPT.parent)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ended.stdout.split() == ["crash"] * 4 + ["memory", "slow"], ended.stderr


async def test_a_killed_process_is_replaced_and_nobody_is_refused(calls: CompilerCalls) -> None:
    async with trying(calls) as trials:
        await trials.check("ann", *HONEST["schema"])
        first = pid(trials)
        os.kill(first, signal.SIGKILL)
        await trials.check("ann", *HONEST["regex"])
        assert pid(trials) != first


async def test_one_that_is_killed_while_it_tries_tries_again(calls: CompilerCalls) -> None:
    bounds = TrialBounds(seconds=0.5, step_seconds=600.0)
    async with trying(calls, bounds) as trials:
        await trials.check("ann", *HONEST["schema"])
        slow = asyncio.ensure_future(refusal(trials, "eve", *SLOW))
        first = psutil.Process(pid(trials))
        while not first.children():
            await asyncio.sleep(0.001)
        child = first.children()[0]
        first.kill()
        assert "more than 0.5 s" in str(await slow)
        assert trials.counts["restarts"] == 1
        assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE


async def test_a_process_that_cannot_start_is_a_503(
    calls: CompilerCalls, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from sglang.srt.tenancy.worker import process

    broken = tmp_path / "main.py"
    broken.write_text("raise SystemExit(3)")
    async with trying(calls) as trials:
        with monkeypatch.context() as patch:
            patch.setattr(process, "SCRIPT", broken)
            assert (await refusal(trials, "ann", *HONEST["schema"])).status_code == 503
        await trials.check("ann", *HONEST["schema"])  # nothing of it is remembered


async def test_users_take_turns(calls: CompilerCalls) -> None:
    """Six slow ones of one user are in front; another's one is tried after the first of them."""
    bounds = TrialBounds(seconds=0.1, step_seconds=600.0)
    async with trying(calls, bounds) as trials:
        await trials.check("ann", *HONEST["schema"])
        slow = [
            asyncio.ensure_future(refusal(trials, "eve", SLOW[0], SLOW[1] + "x" * number))
            for number in range(6)
        ]
        await asyncio.sleep(0)
        await trials.check("ann", *HONEST["regex"])
        assert sum(one.done() for one in slow) <= 2
        for one in slow:
            assert "to compile" in str(await one)


async def test_many_at_once(calls: CompilerCalls) -> None:
    async with trying(calls) as trials:
        await asyncio.gather(
            *(
                trials.check(f"user {number % 7}", "regex", f"[a-z]{{{number // 2 + 1}}}")
                for number in range(60)
            )
        )
        assert trials.counts["tried"] + trials.counts["remembered"] <= 60
        assert trials.stats()["waiting"] == 0
        assert "restarts" not in trials.counts


async def test_who_is_gone_is_not_tried(calls: CompilerCalls) -> None:
    bounds = TrialBounds(seconds=0.1, step_seconds=600.0)
    async with trying(calls, bounds) as trials:
        first = asyncio.ensure_future(refusal(trials, "eve", *SLOW))
        gone = asyncio.ensure_future(trials.check("eve", "regex", "b"))
        while trials.stats()["waiting"] != 1:
            await asyncio.sleep(0.001)
        gone.cancel()
        await first
        await trials.check("eve", "regex", "c")
        assert trials.counts["tried"] == 2


async def test_what_is_remembered_is_each_users_own_and_bounded(calls: CompilerCalls) -> None:
    async with trying(calls, TrialBounds(remembered=3)) as trials:
        for user in ("ann", "ben"):
            await trials.check(user, "regex", "a")
        assert counts(trials) == {"tried": 2}
        trials.forget("ann")
        assert trials.stats()["remembered"] == 1
        for number in range(5):
            await trials.check("ann", "regex", f"a{{{number + 1}}}")
        assert trials.stats()["remembered"] == 3


async def test_a_vocabulary_that_cannot_be_read_is_read_again(calls: CompilerCalls) -> None:
    made: list[CompilerCalls | OSError] = [OSError("once"), calls]

    def make() -> CompilerCalls:
        one = made.pop(0)
        if isinstance(one, OSError):
            raise one
        return one

    trials = GrammarTrials(make)
    assert (await refusal(trials, "ann", "regex", "a")).status_code == 503
    await trials.check("ann", "regex", "a")
    await trials.stop()


async def test_what_the_scheduler_compiles_for_nobody_passes() -> None:
    def none() -> CompilerCalls:
        raise NoGrammars

    trials = GrammarTrials(none)
    await trials.check("ann", "regex", "(")


def test_the_calls_are_upstreams(calls: CompilerCalls) -> None:
    assert calls.call("regex", "a+") == wire.Compile("compile_regex", ["a+"])
    assert calls.call("ebnf", "x").arguments == ["x", "root"]
    assert calls.call("json_schema", "$$ANY$$").method == "compile_builtin_json_grammar"
    assert calls.call("json_schema", "{}").arguments[:2] == ["{}", True]
    assert len(calls.vocabulary) == demo_model.VOCABULARY


SECRET = "hunter2"
MESSAGES = [
    ("sglang.srt.constrained.xgrammar_backend", f"Hit invalid regex: key_string='{SECRET}', e=x"),
    (
        "sglang.srt.constrained.grammar_manager",
        f"Grammar compilation raised an exception: {SECRET}",
    ),
    ("sglang.srt.constrained.base_grammar_backend", f"Skip unsupported key_type='{SECRET}'"),
    (
        "sglang.srt.managers.schedule_batch",
        f"Failed to compile regex grammar: {SECRET}, self.rid=1",
    ),
    ("sglang.srt.managers.schedule_batch", f"Grammar preprocessing timed out: {SECRET}"),
    (
        "sglang.srt.managers.scheduler_components.batch_result_processor",
        f"Grammar accept_token failed for req {SECRET} with token 1: {SECRET}",
    ),
]


@pytest.mark.parametrize(("name", "message"), MESSAGES)
def test_the_log_shows_no_grammar(
    name: str, message: str, caplog: pytest.LogCaptureFixture
) -> None:
    log.hide_grammars()
    log.hide_grammars()
    logger = logging.getLogger(name)
    logger.error(message)
    logger.error("req %s: invalid stop_regex %r (%s); aborting", "1", SECRET, SECRET)
    assert SECRET not in caplog.text
    assert message[:15] in caplog.text
    assert sum(isinstance(known, log._HideGrammars) for known in logger.filters) == 1


def test_other_messages_stay(caplog: pytest.LogCaptureFixture) -> None:
    log.hide_grammars()
    logging.getLogger("sglang.srt.managers.schedule_batch").error("told, as it is: %s", 5)
    assert "told, as it is: 5" in caplog.text


def test_the_schedulers_cache_is_bounded(
    calls: CompilerCalls, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sglang.srt.constrained.xgrammar_backend import XGrammarGrammarBackend

    tokenizer = PreTrainedTokenizerFast(tokenizer_object=demo_model.make_tokenizer())
    backend: Any = XGrammarGrammarBackend(tokenizer, demo_model.VOCABULARY, [1])
    # A scheduler's cache that an earlier test made in this process has switched it on.
    monkeypatch.setattr(scheduler_cache, "_on", False)
    drop: Any = partial(scheduler_cache._drop_oldest, None, backend)
    for number in range(scheduler_cache.MOST_KEPT + 9):
        backend.set_cache(("regex", f"a{{{number}}}"), object())
        drop()
    assert len(backend.cache) == scheduler_cache.MOST_KEPT + 9  # not until a scheduler asks
    monkeypatch.setattr(scheduler_cache, "_on", True)
    drop()
    assert len(backend.cache) == scheduler_cache.MOST_KEPT
    assert ("regex", "a{0}") not in backend.cache
    assert backend.grammar_compiler.cache_limit_bytes == scheduler_cache._COMPILER_KEEPS
    compiler = backend.grammar_compiler
    drop()
    assert backend.grammar_compiler is compiler
    grammar = backend.dispatch_regex("ab")
    grammar.accept_token(demo_model.make_tokenizer().encode("a").ids[0])
    assert not grammar.is_terminated()
