"""The detector process: prompts in on stdin, results out on stdout.

Patterns hold the interpreter's lock while they search, so they run in no process that serves.
It is started as a script: the package's own ``__init__`` would load all of the engine, seconds
and hundreds of megabytes, for what a few small files do.
"""

from __future__ import annotations

import os
import sys
from array import array
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sglang.srt.tenancy.detect import scan, wire


def _without_the_engine() -> None:
    """Let ``sglang.srt.tenancy.detect`` be imported without what is above it."""
    here = Path(__file__).parent
    names = ("sglang.srt.tenancy.detect", "sglang.srt.tenancy", "sglang.srt", "sglang")
    for name, folder in zip(names, (here, *here.parents), strict=False):
        package = ModuleType(name)
        package.__path__ = [str(folder)]
        sys.modules[name] = package
    # A script's folder comes first: our file names would hide others' modules.
    sys.path[:] = [entry for entry in sys.path if not entry or Path(entry) != here.resolve()]


def main() -> None:
    """Serve until stdin ends."""
    from sglang.srt.tenancy.detect import wire

    os.nice(10)
    questions = sys.stdin.buffer
    # Whatever a library prints must not get between the messages.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    scanner = None
    while (question := wire.read_question(questions)) is not None:
        if isinstance(question, wire.Setup):
            scanner = _scanner(question)
            answers.write(wire.frame(wire.Ready()))
        else:
            assert scanner is not None, "no Setup came first"
            results = scanner.scan([array("q", prompt) for prompt in question.prompts])
            answers.write(wire.frame(wire.Results([_result(one) for one in results])))
        answers.flush()


def _scanner(setup: wire.Setup) -> scan.Scanner:
    from sglang.srt.tenancy.detect import scan
    from sglang.srt.tenancy.detect.rules import Rules

    finders: list[scan.Finder] = [Rules()]
    if setup.model is not None:
        from sglang.srt.tenancy.detect.model import Model

        # No text needs it, and on a host without a GPU its native library often does not load.
        sys.modules["torchvision"] = None  # type: ignore[assignment]
        finders.append(Model(setup.model))
    return scan.Scanner(setup.vocabulary, finders, excerpts=setup.excerpts)


def _result(result: scan.PromptScan) -> wire.Result:
    from sglang.srt.tenancy.detect import wire

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


if __name__ == "__main__":
    _without_the_engine()
    main()
