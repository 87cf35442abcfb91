"""The trial process: a grammar in, a verdict out (``worker.main`` runs it).

Each grammar is tried in a child of this process, forked with the vocabulary already loaded. What
it does to itself, it does to that child. This process never compiles: it has one thread, so that
it may fork.
"""

from __future__ import annotations

import ctypes
import importlib
import os
import re
import resource
import signal
from contextlib import suppress
from pathlib import Path
from typing import Any

from sglang.srt.tenancy.grammar import wire
from sglang.srt.tenancy.grammar.native import NativeCompiler

_WALK = "sglang.srt.tenancy.grammar.walk"  # numpy: after the compiler has set its threads
_PR_SET_PDEATHSIG = 1
_STACK = 4 << 20  # bytes; half of what a thread of the scheduler has
_FAILED_CHECK = re.compile(r"^Check failed: \(.*?\) is false: ")
_ENDED_BY_TIME = (signal.SIGPROF, signal.SIGALRM)
_libc = ctypes.CDLL(None)


class Worker:
    """Tries grammars as its first message says."""

    def __init__(self) -> None:
        self._setup: wire.Setup | None = None
        self._compiler: NativeCompiler | None = None

    def answer(self, body: bytes) -> bytes:
        question = wire.question(body)
        if isinstance(question, wire.Setup):
            self._setup = question
            self._compiler = NativeCompiler(question)
            importlib.import_module(_WALK)  # once, not in each child
            question.vocabulary = []  # the compiler has its own
            return wire.encode(wire.Ready())
        assert self._setup is not None, "no Setup came first"
        assert self._compiler is not None
        return wire.encode(_try_apart(self._compiler, self._setup, question))


def _try_apart(compiler: NativeCompiler, setup: wire.Setup, call: wire.Compile) -> wire.Verdict:
    """Try a grammar in a child. Its exit says what it could not say itself."""
    before = _status("VmRSS")
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        _in_child(compiler, setup, call, writing)
    os.close(writing)
    with os.fdopen(reading, "rb") as answer:
        body = answer.read()
    _, status, usage = os.wait4(child, 0)
    if os.WIFEXITED(status) and os.WEXITSTATUS(status) == 0 and body:
        verdict = wire.answer(body)
        assert isinstance(verdict, wire.Verdict)
        return verdict
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) in _ENDED_BY_TIME:
        return wire.Verdict("slow")
    # A failed allocation in native code ends a process like any other fault.
    grown = usage.ru_maxrss * 1024 - before
    return wire.Verdict("memory" if grown > setup.memory / 2 else "crash")


def _in_child(
    compiler: NativeCompiler, setup: wire.Setup, call: wire.Compile, writing: int
) -> None:
    """Try the grammar, write the verdict and end; within bounds that the kernel keeps."""
    ended = 1
    try:
        _bound(setup)
        os.write(writing, wire.encode(_verdict(compiler, call, setup.step_seconds)))
        ended = 0
    finally:
        os._exit(ended)


def _bound(setup: wire.Setup) -> None:
    parent = os.getppid()
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it ended before that
        os._exit(1)
    # What native code prints holds parts of the grammar.
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in range(3):
        os.dup2(nowhere, stream)
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_STACK, _STACK)
    _limit(resource.RLIMIT_DATA, _status("VmData") + setup.memory)
    for ending in _ENDED_BY_TIME:
        signal.signal(ending, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, setup.last_seconds)
    # Of the CPU, whatever native code does meanwhile: a busy machine refuses nobody.
    signal.setitimer(signal.ITIMER_PROF, setup.seconds)


def _limit(what: int, most: int) -> None:
    _, hard = resource.getrlimit(what)
    soft = most if hard == resource.RLIM_INFINITY else min(most, hard)
    resource.setrlimit(what, (soft, hard))


def _status(field: str) -> int:
    """Read a size of this process, in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    return 0


def _verdict(compiler: NativeCompiler, call: wire.Compile, step_seconds: float) -> wire.Verdict:
    walk = importlib.import_module(_WALK).walk
    try:
        matcher: Any = compiler.compile(call.method, call.arguments)
        return walk(matcher, compiler.vocabulary_size, step_seconds)
    except MemoryError:
        return wire.Verdict("memory")
    except Exception as error:  # noqa: BLE001 - the compiler raises what it likes
        text = str(error)
        if "bad_alloc" in text:
            return wire.Verdict("memory")
        return wire.Verdict("invalid", _told(text))


def _told(text: str) -> str:
    """Return the compiler's words, without the place in its own source."""
    said = text.strip().splitlines()[-1] if text.strip() else ""
    _, mark, rest = said.rpartition(".cc:")
    return _FAILED_CHECK.sub("", rest.partition(": ")[2] if mark else said)[:200]
