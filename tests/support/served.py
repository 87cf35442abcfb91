"""Requests that an engine serves, alone and whole or up to their first token."""

from __future__ import annotations

from array import array
from typing import Any

from support.engine import Engine, Task


def own(user: str, tokens: int = 12) -> array[int]:
    """What only this user writes."""
    return array("q", [1000 + sum(user.encode()) + at for at in range(tokens)])


def begin(on: Engine, user: str | None, prompt: array[int], **how: Any) -> Task:
    """Admit a request and compute its prompt, up to its first token."""
    task = on.new_task(user, prompt, **how)
    assert on.admit(task)
    while not task.decoding:
        on.step(task, 1)
        on.check()
    return task


def serve(
    on: Engine, user: str | None, prompt: array[int], *, written: bool = False, **how: Any
) -> int:
    """A whole request. Returns the tokens it found. ``written``: wait for copies to the host."""
    task = begin(on, user, prompt, **how)
    on.finish(task)
    if written:
        on.land(99, 99)
    on.check()
    return task.hit
