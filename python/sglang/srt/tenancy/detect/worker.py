"""The detector process: prompts in, results out (``worker.main`` runs it).

Patterns hold the interpreter's lock while they search, so they run in no process that serves.
"""

from __future__ import annotations

import sys
from array import array

from sglang.srt.tenancy.detect import scan, wire


class Worker:
    """Scans prompts as its first message says."""

    def __init__(self) -> None:
        self._scanner: scan.Scanner | None = None

    def answer(self, body: bytes) -> bytes:
        question = wire.question(body)
        if isinstance(question, wire.Setup):
            self._scanner = _scanner(question)
            return wire.encode(wire.Ready())
        assert self._scanner is not None, "no Setup came first"
        results = self._scanner.scan([array("q", prompt) for prompt in question.prompts])
        return wire.encode(wire.Results([_result(one) for one in results]))


def _scanner(setup: wire.Setup) -> scan.Scanner:
    from sglang.srt.tenancy.detect.rules import Rules

    finders: list[scan.Finder] = [Rules()]
    if setup.model is not None:
        from sglang.srt.tenancy.detect.model import Model

        # No text needs it, and on a host without a GPU its native library often does not load.
        sys.modules["torchvision"] = None  # type: ignore[assignment]
        finders.append(Model(setup.model))
    return scan.Scanner(setup.vocabulary, finders, excerpts=setup.excerpts)


def _result(result: scan.PromptScan) -> wire.Result:
    hints = [wire.Hint(*hint) for hint in result.hints]
    return wire.Result(
        result.harmless,
        result.sensitive,
        hints,
        result.possible,
        list(result.kinds),
        result.read,
        result.known,
    )
