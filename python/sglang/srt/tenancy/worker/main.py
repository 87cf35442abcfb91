"""The script of every worker process: questions in on stdin, answers out on stdout.

    python main.py MODULE

It serves what ``sglang.srt.tenancy.MODULE.Worker()`` answers. The package's own ``__init__`` would
load all of the engine, seconds and hundreds of megabytes, for what a few small files do.
"""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path
from types import ModuleType


def _without_the_engine() -> None:
    """Let ``sglang.srt.tenancy`` be imported without what is above it."""
    here = Path(__file__).resolve().parent
    names = ("sglang.srt.tenancy", "sglang.srt", "sglang")
    for name, folder in zip(names, here.parents, strict=False):
        package = ModuleType(name)
        package.__path__ = [str(folder)]
        sys.modules[name] = package
    # A script's folder comes first: our file names would hide others' modules.
    sys.path[:] = [entry for entry in sys.path if not entry or Path(entry).resolve() != here]


def main() -> None:
    """Serve until stdin ends."""
    os.nice(10)
    questions = sys.stdin.buffer
    # Whatever a library prints must not get between the messages.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())

    from sglang.srt.tenancy.worker.frames import frame, read_frame

    worker = importlib.import_module(f"sglang.srt.tenancy.{sys.argv[1]}").Worker()
    while (question := read_frame(questions)) is not None:
        answers.write(frame(worker.answer(question)))
        answers.flush()


if __name__ == "__main__":
    _without_the_engine()
    main()
