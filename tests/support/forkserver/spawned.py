"""Let multiprocessing spawn its processes as forks that were made beforehand.

A spawned process knows of its parent what it is sent, nothing else. So does a fork that was made
before the parent had done anything: it waits for what an interpreter would be started with, and
goes on as that interpreter would.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import sys
from collections.abc import Sequence
from multiprocessing import util
from typing import Any

FORKS = 6  # a scheduler, a detokenizer, and some processes that speak HTTP
# What a process that controls data parallelism spawns.
REPLICAS = 2
# An environment variable: so many processes, the first that are spawned, are new interpreters,
# whose strings hash as in no other.
ANEW = "TESTS_SPAWN_ANEW"
MESSAGE_BYTES = 1 << 20
MOST_FDS = 64
# Beyond what a process that has just begun has open.
_HIGH_FD = 512

_interpreter: Any = getattr(util, "spawnv_passfds")  # noqa: B009


def come_from_forks(number: int = FORKS, *, of_each: int = 0) -> None:
    """Make the forks, for what this process will spawn; later ones are new interpreters.

    ``of_each``: forks that each of them makes for itself.
    """
    forks: list[tuple[int, socket.socket]] = []
    if anew := int(os.environ.get(ANEW, "0")):
        os.environ["PYTHONHASHSEED"] = "random"
    for _ in range(number):
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        if (child := os.fork()) == 0:
            ours.close()
            for _, other in forks:
                other.close()
            if of_each:
                come_from_forks(of_each)
            _wait_and_run(theirs)
        theirs.close()
        forks.append((child, ours))

    def spawn(path: bytes, arguments: Sequence[Any], fds: Sequence[int]) -> int:
        """What multiprocessing calls for a process, and for its own helper."""
        nonlocal anew
        texts = [os.fsdecode(argument) for argument in arguments]
        spawned = any("multiprocessing.spawn" in text for text in texts)
        if not forks or not spawned or os.fsdecode(path) != sys.executable:
            return int(_interpreter(path, arguments, fds))
        if anew:
            anew -= 1
            return int(_interpreter(path, arguments, fds))
        child, to_child = forks.pop(0)
        with to_child:
            code, *rest = texts[texts.index("-c") + 1 :]
            message = {"code": code, "arguments": rest, "env": dict(os.environ), "fds": list(fds)}
            socket.send_fds(to_child, [json.dumps(message).encode()], list(fds))
        return child

    setattr(util, "spawnv_passfds", spawn)  # noqa: B010


def _wait_and_run(parent: socket.socket) -> None:
    """Do as ``python -c CODE`` does with these open files; never return."""
    text, received, *_ = socket.recv_fds(parent, MESSAGE_BYTES, MOST_FDS)
    parent.close()
    if not text:
        os._exit(0)
    message = json.loads(text)
    _number(received, message["fds"])
    os.environ.clear()
    os.environ.update(message["env"])
    sys.argv = ["-c", *message["arguments"]]
    exec(message["code"], {"__name__": "__main__"})
    sys.exit()


def _number(received: list[int], wanted: list[int]) -> None:
    """Give the open files the numbers that they have in the parent."""
    high = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, _HIGH_FD) for fd in received]
    for fd in received:
        os.close(fd)
    for fd, number in zip(high, wanted, strict=True):
        os.dup2(fd, number, inheritable=False)
        os.close(fd)
