"""Send control requests to the schedulers, and collect every replica's answer."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable
from typing import Any

from sglang.srt.tenancy.control.messages import (
    NOTICES,
    ControlRequest,
    Notice,
    Refused,
    TenantControl,
    TenantControlReply,
    refused,
)

_SECONDS = 120.0  # a scheduler answers between two batches


class Channel:
    """Sends control requests, and pairs the replies by their id.

    Upstream's own communicator counts replies without asking to which request they belong: one
    that was given up would lend its late replies to the next.
    """

    def __init__(self, send: Callable[[TenantControl], None], ranks: int):
        self._send = send
        self._ranks = ranks
        self._open: dict[str, _Pending] = {}

    async def ask(self, request: ControlRequest) -> list[dict[str, Any]]:
        """Ask every data-parallel rank; their answers, in the order of the ranks.

        Raises Refused: what the schedulers refuse, or 503 where one does not answer in time (it
        may then still carry out the request).
        """
        message = TenantControl(rid=uuid.uuid4().hex, request=request)
        pending = _Pending(self._ranks)
        self._open[message.rid] = pending
        try:
            self._send(message)
            replies = await asyncio.wait_for(pending.complete, _SECONDS)
        except asyncio.TimeoutError:
            raise refused(
                503, "schedulers", f"no answer in {_SECONDS:.0f} s; see the server's log, ask again"
            ) from None
        finally:
            del self._open[message.rid]
        return _answers(replies)

    def tell(self, request: ControlRequest) -> None:
        """Send a request whose answers nobody waits for."""
        self._send(TenantControl(rid=uuid.uuid4().hex, request=request))

    def receive(self, reply: TenantControlReply) -> None:
        """Take one rank's reply; one to a request that nobody waits for any more is dropped."""
        pending = self._open.get(reply.rid or "")
        if pending is not None:
            pending.add(reply)


class _Pending:
    """The replies to one request, until there is one of each rank."""

    def __init__(self, ranks: int):
        self._ranks = ranks
        self._replies: dict[int, TenantControlReply] = {}
        self.complete: asyncio.Future[list[TenantControlReply]] = (
            asyncio.get_running_loop().create_future()
        )

    def add(self, reply: TenantControlReply) -> None:
        self._replies[reply.rank] = reply
        if len(self._replies) == self._ranks and not self.complete.done():
            self.complete.set_result([self._replies[rank] for rank in sorted(self._replies)])


def _answers(replies: list[TenantControlReply]) -> list[dict[str, Any]]:
    for reply in replies:
        if reply.refusal is not None:
            raise Refused(reply.refusal)
    return [reply.answer for reply in replies]


def connect(manager: Any, notify: Callable[[Notice], None]) -> Channel:
    """Make a channel through this process's tokenizer manager, on the requests' own sockets.

    ``notify``: is given what the schedulers tell every HTTP process.
    """
    from sglang.utils import TypeBasedDispatcher

    manager.auto_create_handle_loop()
    channel = Channel(manager._dispatch_to_scheduler, manager.server_args.dp_size)
    manager._result_dispatcher += TypeBasedDispatcher(
        [(TenantControlReply, channel.receive), *((notice, notify) for notice in NOTICES)]
    )
    return channel
