"""Where the detector meets the server: prompts as they leave, verdicts as they arrive."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

from sglang.srt.tenancy.detect import wire
from sglang.srt.tenancy.detect.pipeline import Pipeline, Prompt
from sglang.srt.utils.auth import AuthLevel, auth_level

if TYPE_CHECKING:
    from sglang.srt.tenancy.options import TenantOptions

logger = logging.getLogger("sglang.srt.entrypoints.http_server")

_LOOK_AGAIN = 1.0  # seconds; an end of a request that sets no event is noticed this late

# This process's; None where there is nothing to detect for.
_pipeline: Pipeline | None = None


async def start(app: FastAPI, manager: Any, options: TenantOptions) -> None:
    """Start this HTTP process's detector, where the options ask for one."""
    global _pipeline
    app.add_api_route("/tenant/detector", status, methods=["GET"])
    if options.tenant_mode != "selective" or options.tenant_detector != "rules":
        return
    from sglang.srt.tenancy.detect.judge import Judge
    from sglang.srt.tenancy.detect.vocabulary import bytes_of_tokens

    vocabulary = None
    if manager.tokenizer is not None:
        vocabulary = await asyncio.to_thread(bytes_of_tokens, manager.tokenizer)
    if vocabulary is None:
        logger.warning(
            "The tenant detector cannot read this model's tokens (%s): only registered prefixes "
            "become public.",
            "no tokenizer" if manager.tokenizer is None else type(manager.tokenizer).__name__,
        )
        return
    judge = Judge(manager) if options.tenant_detector_judge else None
    setup = wire.Setup(vocabulary, options.tenant_detector_model, excerpts=judge is not None)
    _pipeline = Pipeline(setup, judge)
    _pipeline.start()


def watch(manager: Any, request: Any) -> None:
    """Offer a prompt that is about to leave for the scheduler. Never raises, never waits."""
    if _pipeline is None or not _may_become_public(request):
        return
    state = manager.rid_to_state[request.rid]
    tokens = request.input_ids

    async def deliver(harmless: int, sensitive: int | None) -> None:
        from sglang.srt.tenancy.verdict import TenantVerdict, trimmed

        verdict = trimmed(
            TenantVerdict(
                owner=request.user_id,
                tokens=tokens,
                harmless=harmless,
                sensitive=sensitive,
                extra_key=request.extra_key,
                lora_id=request.lora_id,
            ),
            manager.server_args.page_size,
        )
        if verdict is not None:
            await _answered(manager, request.rid, state)
            manager._dispatch_to_scheduler(verdict)

    _pipeline.offer(Prompt(tokens, deliver))


def _may_become_public(request: Any) -> bool:
    """Whether the tree may ever show this prompt to others, and it has text."""
    return bool(
        getattr(request, "user_id", None) is not None  # embedding requests have none
        and request.cache_scope is None
        and request.input_ids
        # What is no text has no verdict: images, embeddings.
        and request.mm_inputs is None
        and request.input_embeds is None
        and request.positional_embed_overrides is None
        and request.mm_data_mooncake is None
        and not request.need_wait_for_mm_inputs
    )


async def _answered(manager: Any, rid: str, state: Any) -> None:
    """Wait until the first output is back: only then the tree holds the prompt, and a verdict
    finds what it speaks of."""
    while (
        manager.rid_to_state.get(rid) is state
        and not state.finished
        and not state.time_stats.first_token_time
        and not state.event.is_set()
    ):
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(state.event.wait(), _LOOK_AGAIN)


@auth_level(AuthLevel.ADMIN_FORCE)
async def status(request: Request) -> JSONResponse:
    """What this HTTP process's detector did so far: numbers only. For operators."""
    return JSONResponse({"detector": None if _pipeline is None else _pipeline.stats()})
