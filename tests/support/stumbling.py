"""A scheduler that stumbles over marked prompts, as over a fault that nobody knows yet."""

from __future__ import annotations

from typing import Any

MARK = 77  # a token that no other prompt of the test holds


def stumble() -> None:
    """Let upstream raise where a request has just been made, and where it has just been queued."""
    from sglang.srt.managers.scheduler import Scheduler

    made, queued = Scheduler.init_req_max_new_tokens, Scheduler._add_request_to_queue

    def when_made(self: Any, req: Any) -> None:
        made(self, req)
        if list(req.origin_input_ids[:2]) == [MARK, 1]:
            raise KeyError("made")

    def when_queued(self: Any, req: Any, *args: Any, **kwargs: Any) -> None:
        queued(self, req, *args, **kwargs)
        if list(req.origin_input_ids[:2]) == [MARK, 2]:
            raise ZeroDivisionError("queued")

    Scheduler.init_req_max_new_tokens = when_made
    Scheduler._add_request_to_queue = when_queued
