"""A plugin that lets the scheduler run ahead of the device, as it does on GPUs, and watches it.

On the CPU there is nothing to gain from it, so the platform turns it off; the code is the same.
"""

from __future__ import annotations

from typing import Any

from support import watch


def start() -> None:
    """Called by upstream in every process."""
    from sglang.srt.plugins.hook_registry import HookRegistry, HookType

    watch.start()
    HookRegistry.register(
        "sglang.srt.platforms.torch_cpu_defaults._choose_backends", _overlap, HookType.AFTER
    )


def _overlap(_: None, args: Any) -> None:
    args.disable_overlap_schedule = False
