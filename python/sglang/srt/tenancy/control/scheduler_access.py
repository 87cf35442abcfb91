"""Reach what control requests need of a scheduler besides its cache."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from sglang.srt.tenancy.user_id import account_name, digest

if TYPE_CHECKING:
    from sglang.srt.managers.io_struct import BaseReq
    from sglang.srt.managers.schedule_batch import Req


class SchedulerAccess:
    """One rank's scheduler."""

    def __init__(self, scheduler: Any):
        self._scheduler = scheduler

    def requests(self) -> list[Req]:
        """Return all requests that the scheduler has now, waiting or running, each once."""
        scheduler = self._scheduler
        batches = [scheduler.running_batch, scheduler.last_batch]
        if scheduler.ps.pp_size > 1:
            batches += [*scheduler.running_mbs, *scheduler.mbs]
        found: dict[Req, None] = dict.fromkeys(scheduler.waiting_queue)
        found.update(dict.fromkeys(scheduler.grammar_manager.grammar_queue))
        for batch in batches:
            if batch is not None:
                found.update(dict.fromkeys(batch.reqs))
        if scheduler.chunked_req is not None:
            found[scheduler.chunked_req] = None
        return list(found)

    def close_sessions(self, user: str) -> int:
        """Close a user's sessions, one with a running request when that ends. Returns how many."""
        from sglang.srt.managers.io_struct import CloseSessionReqInput

        controller = self._scheduler.session_controller
        theirs = [name for name in controller.sessions if name.startswith(f"{digest(user)}.")]
        for name in theirs:
            controller.close(CloseSessionReqInput(session_id=name))
        return len(theirs)

    def reweigh(self, weights: Mapping[str, float]) -> None:
        """Have a fair schedule policy divide service by other weights."""
        from sglang.srt.tenancy.schedule.fair_policy import FairPolicy

        policy = self._scheduler.policy
        if isinstance(policy, FairPolicy):
            policy.reweigh(weights)

    def service_of(self, user: str) -> dict[str, float]:
        """Return what a fair schedule policy knows of a user; nothing where there is none."""
        from sglang.srt.tenancy.schedule.fair_policy import FairPolicy

        policy = self._scheduler.policy
        known = policy.tracker.users.get(user) if isinstance(policy, FairPolicy) else None
        if known is None:
            return {}
        return {"waiting": known.waiting, "running": known.running, "service": known.due}

    def queue(self, most: int) -> dict[str, Any]:
        """Count requests that wait and that run, and list the ``most`` users who have most of them,
        with their service where a fair policy counts it."""
        scheduler = self._scheduler
        queues = (scheduler.waiting_queue, scheduler.grammar_manager.grammar_queue)
        waiting = Counter(account_name(req.user_id) for queue in queues for req in queue)
        running = Counter(
            account_name(req.user_id) for req in self.requests() if not req.finished()
        )
        running.subtract(waiting)
        users = heapq.nlargest(most, waiting | running, key=lambda u: (waiting[u], running[u]))
        return {
            "policy": getattr(scheduler.policy, "name", scheduler.server_args.schedule_policy),
            "waiting": waiting.total(),
            "running": running.total(),
            "users": [
                {
                    "user": digest(user),
                    "waiting": waiting[user],
                    "running": running[user],
                    "service": self.service_of(user).get("service"),
                }
                for user in users
            ],
        }

    def send(self, message: BaseReq) -> None:
        """Send a message to the HTTP process it is addressed to."""
        self._scheduler.ipc_channels.send_to_tokenizer.send_output(message)


class NoScheduler(SchedulerAccess):
    """For a cache without a scheduler."""

    def __init__(self) -> None:
        super().__init__(None)

    def requests(self) -> list[Req]:
        return []

    def close_sessions(self, user: str) -> int:
        return 0

    def reweigh(self, weights: Mapping[str, float]) -> None:
        pass

    def service_of(self, user: str) -> dict[str, float]:
        return {}

    def queue(self, most: int) -> dict[str, Any]:
        return {"policy": None, "waiting": 0, "running": 0, "users": []}

    def send(self, message: BaseReq) -> None:
        pass
