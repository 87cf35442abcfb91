"""Serve a model to many users, in the foreground, until Ctrl-C.

    python scripts/serve.py [--model PATH] [--host HOST] [--port PORT] [-- FLAGS]

Without --model a small demo model is made. FLAGS go to the server and win over
the ones chosen here.
"""

from __future__ import annotations

import argparse
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import IO

import demo_model
from server_process import ServerEnded, ServerProcess

DEMO_MODEL = Path(".models/tiny")
START_SECONDS = 1_800.0

CACHE_FLAGS = (
    "--enable-hierarchical-cache",
    "--enable-cache-report",
    "--enable-metrics",
)
TENANT_FLAGS = ("--enable-tenant-cache",)
# Plenty for a demo, and next to nothing for the machine.
DEMO_FLAGS = ("--served-model-name", "demo", "--max-total-tokens", "65536")

ERROR_LINE = re.compile(r"^(?:\S+: )?(?:[\w.]*(?:Error|Exception)\b|[\w. -]+: error: ).*")

READY = """
The server is ready at {url}. Ask it, as user alice:

curl {url}/v1/chat/completions -H 'Content-Type: application/json' -d '{{
  "model": "{model}", "user_id": "alice", "max_tokens": 60,
  "messages": [{{"role": "user", "content": "What do you remember of bob?"}}]
}}'

Ask twice: the answer's "cached_tokens" counts what she found in the cache.
{sharing} Ctrl-C ends the server.
"""
ISOLATED = 'With "user_id": "bob" it starts from nothing.'
SHARED = "Every user finds what any other left there."


def main() -> int:
    """Serve; return the exit code."""
    arguments = _parser().parse_args()
    signal.signal(signal.SIGTERM, _interrupt)
    server = ServerProcess(
        _flags(arguments),
        host=arguments.host,
        port=arguments.port,
        output=subprocess.PIPE,
    )
    output = _Output(server.popen.stdout)
    try:
        return _serve(server, output, _ready_text(server.url, arguments))
    except KeyboardInterrupt:
        print("\nEnding the server.", flush=True)
        return 0
    finally:
        # A second Ctrl-C would leave half of the processes.
        for each in (signal.SIGINT, signal.SIGTERM):
            signal.signal(each, signal.SIG_IGN)
        server.stop()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", help="path or hub name; a demo model if left out")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=30_000)
    parser.add_argument(
        "--plain", action="store_true", help="share the cache between users, to compare"
    )
    parser.add_argument("flags", nargs="*", metavar="FLAGS", help="for the server")
    return parser


def _interrupt(_signal: int, _frame: object) -> None:
    raise KeyboardInterrupt


def _flags(arguments: argparse.Namespace) -> list[str]:
    flags = [*CACHE_FLAGS, *(() if arguments.plain else TENANT_FLAGS)]
    if arguments.model:
        flags += ["--model-path", arguments.model]
    else:
        demo_model.make_model(DEMO_MODEL)
        flags += ["--model-path", str(DEMO_MODEL), *DEMO_FLAGS]
    return [*flags, *arguments.flags]


def _ready_text(url: str, arguments: argparse.Namespace) -> str:
    sharing = SHARED if arguments.plain else ISOLATED
    return READY.format(url=url, model=arguments.model or "demo", sharing=sharing)


def _serve(server: ServerProcess, output: _Output, ready: str) -> int:
    try:
        server.wait_until_ready(START_SECONDS)
    except ServerEnded as ended:
        output.finish()
        print(f"\nThe server did not start. {output.cause()}", file=sys.stderr)
        return _exit_code(ended.code)
    print(ready, flush=True)
    code = server.popen.wait()
    output.finish()
    print(f"\nThe server ended by itself. {output.cause()}", file=sys.stderr)
    return _exit_code(code) or 1


def _exit_code(code: int) -> int:
    """Return a shell's number for a process that ended by a signal."""
    return 128 - code if code < 0 else code


class _Output:
    """Passes the server's output on, and remembers what looks like a cause."""

    def __init__(self, stream: IO[bytes] | None) -> None:
        assert stream is not None, "the server was started without a pipe"
        self._stream = stream
        self._cause: str | None = None
        self._thread = threading.Thread(target=self._pass_on, daemon=True)
        self._thread.start()

    def _pass_on(self) -> None:
        for line in self._stream:
            sys.stdout.buffer.write(line)
            sys.stdout.buffer.flush()
            text = line.decode(errors="replace").strip()
            if ERROR_LINE.match(text):
                self._cause = text

    def finish(self) -> None:
        """Wait for the last lines, unless somebody holds the pipe open."""
        self._thread.join(timeout=2.0)

    def cause(self) -> str:
        """Return a sentence that points at the cause."""
        if self._cause is None:
            return "Its last lines, above, say why."
        return f"The last error above is:\n  {self._cause}"


if __name__ == "__main__":
    sys.exit(main())
