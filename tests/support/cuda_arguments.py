"""A program: read servers' arguments as a machine with a GPU would.

    python -m support.cuda_arguments < {"commands": [[...]], "spans": [[...]]} > results

Command lines are read in whole, with all that upstream and the fork make of them; of a span only
whether its flags and values exist. Answers with what was chosen, or with the reason against it.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import io
import json
import os
import sys
from typing import Any

from .pretend_cuda import pretend

CHOSEN = (
    "device",
    "attention_backend",
    "sampling_backend",
    "hicache_io_backend",
    "lora_backend",
    "disable_overlap_schedule",
    "sleep_on_idle",
    "max_total_tokens",
    "max_running_requests",
    "disable_hybrid_swa_memory",
)

# Our CPU platform sets these for the workers.
WRITTEN = (
    "SGLANG_CPU_OMP_THREADS_BIND",
    "OMP_NUM_THREADS",
    "SGLANG_UVICORN_WORKER_HEALTHCHECK_TIMEOUT",
)


def main() -> None:
    asked = json.load(sys.stdin)
    pretend()
    results = {
        "commands": [_of_command(arguments) for arguments in asked["commands"]],
        "spans": [_of_span(arguments) for arguments in asked["spans"]],
        "flags": sorted(_parser()._option_string_actions),
        "platform": _platform(),
    }
    json.dump(results, sys.stdout)


def _of_command(arguments: list[str]) -> dict[str, Any]:
    from sglang.srt.server_args import prepare_server_args

    errors = io.StringIO()
    try:
        with contextlib.redirect_stderr(errors), contextlib.redirect_stdout(errors):
            read = prepare_server_args(arguments)
    except (Exception, SystemExit) as problem:  # noqa: BLE001 - the test shows it
        return {"error": f"{problem}\n{errors.getvalue()[-2000:]}"}
    return {name: getattr(read, name) for name in CHOSEN}


def _of_span(arguments: list[str]) -> str:
    errors = io.StringIO()
    try:
        with contextlib.redirect_stderr(errors):
            _parser().parse_args(["--model-path", "any", *arguments])
    except SystemExit:
        return errors.getvalue().strip().splitlines()[-1]
    return ""


def _parser() -> argparse.ArgumentParser:
    from sglang.srt.server_args import ServerArgs

    parser = argparse.ArgumentParser()
    ServerArgs.add_cli_args(parser)
    return parser


def _platform() -> dict[str, Any]:
    """Say which platform upstream chose, and what of ours was loaded and done."""
    importlib.import_module("sglang.srt.managers.scheduler")  # with all that it imports
    platforms: Any = importlib.import_module("sglang.srt.platforms")
    return {
        "class": type(platforms.current_platform).__name__,
        "modules": sorted(name for name in sys.modules if "torch_cpu" in name),
        "environment": [name for name in WRITTEN if name in os.environ],
    }


if __name__ == "__main__":
    main()
