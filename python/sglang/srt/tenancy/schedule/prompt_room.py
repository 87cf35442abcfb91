"""Let no prompt wait for room that there never will be: all that come after it would wait, too.

Upstream admits a request where its prompt, and a page, are less than what is free, and refuses at
once only what has more tokens than the pool but six. With pages of more than five tokens a prompt
in between is never admitted and never refused. And where nothing runs when it is put off, upstream
takes the device for full until something ends: for ever, also when its client has gone.

sgl-project/sglang#28530; #25126 bounds answers, not prompts; #29249, open, would bound these.
"""

from __future__ import annotations

from typing import Any


def install() -> None:
    """Hook in through upstream's registry, as ``scheduler_handler.install``."""
    from sglang.srt.plugins.hook_registry import HookRegistry, HookSource, HookType

    scheduler, source = "sglang.srt.managers.scheduler.Scheduler.", HookSource("tenancy", "sglang")
    HookRegistry.register(
        scheduler + "init_model_worker", _bound_prompts, HookType.AFTER, source=source
    )
    HookRegistry.register(
        scheduler + "get_new_batch_prefill", _look_again, HookType.BEFORE, source=source
    )


def _bound_prompts(_: None, scheduler: Any) -> None:
    args = scheduler.server_args
    if args.enable_tenant_cache:
        pool = scheduler.max_total_num_tokens * args.dcp_size
        longest = pool - args.page_size - 1
        scheduler.max_req_input_len = min(scheduler.max_req_input_len, longest)


def _look_again(scheduler: Any, running_batch: Any) -> None:
    """Where nothing runs, nothing will end that could make room."""
    if scheduler.server_args.enable_tenant_cache and running_batch.is_empty():
        running_batch.batch_is_full = False
