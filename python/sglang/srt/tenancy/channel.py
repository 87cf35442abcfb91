"""The HTTP process's side of the control plane: orders out, every replica's answer in."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

from sglang.srt.tenancy.messages import (
    Order,
    Refused,
    TenantControl,
    TenantControlReply,
    refused,
)

_SECONDS = 120.0  # a scheduler answers between two batches


class Channel:
    """Sends orders through one tokenizer manager, and pairs the replies by their id.

    Upstream's own communicator counts replies without asking to which request they belong: one
    that was given up would lend its late replies to the next.
    """

    def __init__(self, manager: Any):
        from sglang.utils import TypeBasedDispatcher

        self._manager = manager
        self._open: dict[str, _Pending] = {}
        manager._result_dispatcher += TypeBasedDispatcher([(TenantControlReply, self._receive)])

    async def ask(self, order: Order) -> list[dict[str, Any]]:
        """Every data-parallel rank's answer, in the order of the ranks.

        Raises Refused: what the schedulers refuse, or 503 where one does not answer in time (it
        may then still carry out the order).
        """
        self._manager.auto_create_handle_loop()
        message = TenantControl(rid=uuid.uuid4().hex, order=order)
        pending = _Pending(self._manager.server_args.dp_size)
        self._open[message.rid] = pending
        try:
            self._manager._dispatch_to_scheduler(message)
            replies = await asyncio.wait_for(pending.complete, _SECONDS)
        except asyncio.TimeoutError:
            raise refused(
                503, "schedulers", f"no answer in {_SECONDS:.0f} s; see the server's log, ask again"
            ) from None
        finally:
            del self._open[message.rid]
        return _answers(replies)

    def _receive(self, reply: TenantControlReply) -> None:
        pending = self._open.get(reply.rid or "")
        if pending is not None:
            pending.add(reply)


class _Pending:
    """The replies to one order, until there is one of each rank."""

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
