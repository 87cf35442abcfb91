"""Stand what uvicorn's HTTP/1.1 connections do not: broken requests late, and heads that never end.

uvicorn 0.54 answers 400 to what is not HTTP, in whatever state the connection is: where a request
had been read, its handler then fails to answer; where an answer had begun, the 400 itself fails.
Either way the log fills with tracebacks. And it waits without end for a request's head.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import ClassVar
from weakref import WeakKeyDictionary

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from sglang.srt.plugins.hook_registry import HookRegistry, HookSource, HookType

_TARGET = "uvicorn.protocols.http.h11_impl.H11Protocol"


def install(head_timeout: float) -> None:
    """Have this process's connections so.

    ``head_timeout``: seconds that a client has, from its connection or its first byte after an
    answer, to send the head of a request. To be applied by the registry.
    """
    _Heads.timeout = head_timeout
    if f"{_TARGET}.send_400_response" in HookRegistry._hooks:
        return
    source = HookSource("tenant HTTP connections", None)
    HookRegistry.register(
        f"{_TARGET}.send_400_response", _end_broken, HookType.AROUND, source=source
    )
    for method in ("connection_made", "data_received", "connection_lost"):
        HookRegistry.register(f"{_TARGET}.{method}", _Heads.watch, HookType.AROUND, source=source)


def _end_broken(answer: Callable[..., None], connection: H11Protocol, message: str) -> None:
    if connection.cycle is not None:
        # Its handler has nobody to answer to.
        connection.cycle.disconnected = True
        connection.cycle.message_event.set()
    if connection.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
        answer(connection, message)
    else:
        connection.transport.close()


class _Heads:
    """Ends connections that do not send a request's head in time."""

    timeout = 60.0
    _waiting: ClassVar[WeakKeyDictionary[H11Protocol, asyncio.TimerHandle]] = WeakKeyDictionary()

    @classmethod
    def watch(cls, happen: Callable[..., None], connection: H11Protocol, event: object) -> None:
        """Let something happen to a connection; then start or stop its time."""
        happen(connection, event)
        timer = cls._waiting.get(connection)
        if not cls._expected(connection):
            if timer is not None:
                cls._waiting.pop(connection).cancel()
        elif timer is None:
            loop = asyncio.get_running_loop()
            cls._waiting[connection] = loop.call_later(cls.timeout, connection.transport.close)

    @staticmethod
    def _expected(connection: H11Protocol) -> bool:
        if connection.transport.is_closing() or connection.conn.their_state is not h11.IDLE:
            return False
        # Between two requests uvicorn's own time runs, until the second one begins.
        return connection.timeout_keep_alive_task is None
