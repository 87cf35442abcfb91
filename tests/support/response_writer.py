"""A process that writes responses to a file, to be killed; many of them, as forks of one."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from sglang.srt.tenancy import response_cache
from sglang.srt.tenancy.response_cache.entry import Entry, Key
from sglang.srt.tenancy.response_cache.sqlite_file import SqliteStore
from support.response_stores import entry, everything, tag

ROOM = 400_000
OWNERS = 3
WRITERS = 4  # at once
ENDED = "ended"
TESTS = Path(__file__).parent.parent

# Upstream's packages as mere folders: to import all of the engine takes seconds, and a process with
# little memory forks at once.
_SRT = str(Path(response_cache.__file__).parents[2])
_MAIN = """
import sys, types
srt, path = sys.argv[1:]
for name in ("sglang", "sglang.srt"):
    sys.modules[name] = types.ModuleType(name)
    sys.modules[name].__path__ = [srt]
from support.response_writer import main
main(path)
"""


def open_store(path: str, room: int = ROOM) -> SqliteStore:
    return SqliteStore(path, room, None, everything, tag)


def key_of(number: int) -> Key:
    return Key(f"user{number % OWNERS}", number.to_bytes(32, "big"))


def entry_of(number: int) -> Entry:
    """What is stored under a number, of some bytes to some pages."""
    draw = random.Random(number)
    return entry(b"first", draw.randbytes(draw.choice((50, 3000, 20_000))), created=float(number))


class Writers:
    """A process that forks writers, one after the other, so that each is there at once."""

    def __init__(self, path: str):
        names = [str(TESTS), os.environ.get("PYTHONPATH", "")]
        self._process = subprocess.Popen(
            [sys.executable, "-c", _MAIN, _SRT, path],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, names))},
            text=True,
        )

    def killed(self, first: int, delay: Callable[[Callable[[], str]], None]) -> list[int]:
        """Let one store entries from a number on and end it by SIGKILL.

        ``delay``: waits until then; may read what comes. Returns the numbers of which the store
        said that they are kept.
        """
        assert self._process.stdin is not None
        self._process.stdin.write(f"{first}\n")
        self._process.stdin.flush()
        pid = int(self._read())
        read: list[str] = []

        def read_one() -> str:
            read.append(self._read())
            return read[-1]

        delay(read_one)
        os.kill(pid, signal.SIGKILL)
        while not read or read[-1] != ENDED:
            read_one()
        return [int(number) for number in read[:-1]]

    def _read(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line.endswith("\n"), "the process that forks writers has ended; its output says why"
        return line[:-1]

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def main(path: str) -> None:
    """Fork a writer for each line read, and say when it has ended."""
    for line in sys.stdin:
        pid = os.fork()
        if not pid:
            asyncio.run(_write(path, int(line)))
        _say(pid)
        os.waitpid(pid, 0)
        _say(ENDED)


def _say(what: object) -> None:
    """In one piece, however many processes write."""
    os.write(1, f"{what}\n".encode())


async def _write(path: str, first: int) -> None:
    store = open_store(path)
    numbers = iter(range(first, first + 1_000_000))

    async def write() -> None:
        for number in numbers:
            found = await store.get(key_of(number))
            if await store.put(key_of(number), entry_of(number), found.ticket):
                _say(number)
            if number % 50 == 0:
                await store.clear("nobody")

    await asyncio.gather(*(write() for _ in range(WRITERS)))
