"""Procedures of several requests, as generators.

They say what is to be sent, and are told what came of it. So they are written once, for threads and
for asyncio.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from .session_state import Message

T = TypeVar("T")


@dataclass(frozen=True)
class Call:
    """One request to the first endpoint; its result is a Reply, whatever comes of it.

    ``as_operator``: with the admin key, where the client has one. ``seconds``: how long to wait for
    it, where that is not left to the client's timeouts.
    """

    method: str
    path: str
    body: Mapping[str, Any] | None = None
    as_operator: bool = False
    seconds: float | None = None


@dataclass(frozen=True)
class Reply:
    """``status``: None where the server was not reached; ``fault`` then says why."""

    status: int | None
    content: Any = None
    seconds: float = 0.0
    fault: str = ""

    @property
    def ok(self) -> bool:
        """Whether it is a 200."""
        return self.status == 200


@dataclass(frozen=True)
class Chat:
    """A conversation for the first endpoint; its result is an Answer, or it raises."""

    messages: list[Message]
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Pause:
    """Seconds in which nothing is done."""

    seconds: float


Step = Call | Chat | Pause
Steps = Generator[Step, Any, T]


def fault_of(reply: Reply) -> str:
    """Return why a reply is no 200, in the server's words where it gave some."""
    if reply.status is None:
        return reply.fault
    error = reply.content.get("error") if isinstance(reply.content, dict) else None
    said = error.get("message") if isinstance(error, dict) else error
    return f"{reply.status}: {said}" if said else f"{reply.status}"
