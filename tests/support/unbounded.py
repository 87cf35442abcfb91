"""A plugin that takes back what schedule/prompt_room.py does to the length of prompts."""

from __future__ import annotations

from typing import Any


def start() -> None:
    """Called by upstream in every process."""
    from sglang.srt.plugins.hook_registry import HookRegistry, HookType

    HookRegistry.register(
        "sglang.srt.managers.scheduler.Scheduler.get_init_info", _unbound, HookType.BEFORE
    )


def _unbound(scheduler: Any) -> None:
    scheduler.max_req_input_len = scheduler.max_req_len - 5
