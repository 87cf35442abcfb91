"""Have each scheduler say when a batch is processed, and when none is running."""

from __future__ import annotations

from typing import Any


def install() -> None:
    """Hook into every scheduler through upstream's registry, whatever its tree is; only ours has
    frees that wait."""
    from sglang.srt.plugins.hook_registry import HookRegistry, HookSource, HookType

    scheduler, source = "sglang.srt.managers.scheduler.Scheduler.", HookSource("tenancy", "sglang")
    HookRegistry.register(
        scheduler + "process_batch_result", _processed, HookType.AFTER, source=source
    )
    HookRegistry.register(scheduler + "on_idle", _idle, HookType.BEFORE, source=source)


def _processed(_: None, scheduler: Any, *args: Any, **kwargs: Any) -> None:
    core = getattr(scheduler.tree_cache, "core", None)
    if core is not None:
        core.device_frees.advance()


def _idle(scheduler: Any) -> None:
    core = getattr(scheduler.tree_cache, "core", None)
    if core is not None:
        core.device_frees.flush_idle()
