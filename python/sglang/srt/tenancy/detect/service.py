"""Offer prompts to the detector as they leave, and tell the schedulers its scan results."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from sglang.srt.tenancy.detect import wire
from sglang.srt.tenancy.detect.pipeline import Pipeline, Prompt

if TYPE_CHECKING:
    from sglang.srt.tenancy.control.client import ControlClient
    from sglang.srt.tenancy.control.messages import ScanResult
    from sglang.srt.tenancy.flags import TenantOptions

logger = logging.getLogger("sglang.srt.entrypoints.http_server")

_LOOK_AGAIN = 1.0  # seconds; an end of a request that sets no event is noticed this late

# This process's; None where there is nothing to detect for.
_pipeline: Pipeline | None = None
_tell: Callable[[ScanResult], None] | None = None


async def start(
    client: ControlClient,
    manager: Any,
    options: TenantOptions,
    observe: Callable[[float], None],
) -> None:
    """Start this HTTP process's detector, where the options ask for one. ``observe``: as of
    ``Pipeline``."""
    global _pipeline, _tell
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
    _tell = client.tell
    _pipeline = Pipeline(setup, judge, observe=observe)
    _pipeline.start()


def stats() -> dict[str, Any] | None:
    """Count what this HTTP process's detector did so far; None where there is none."""
    return None if _pipeline is None else _pipeline.stats()


def forget(user: str) -> int:
    """Drop a user's prompts that wait to be scanned. Returns how many."""
    return 0 if _pipeline is None else _pipeline.forget(user)


def offer_to_detector(manager: Any, request: Any) -> None:
    """Offer a prompt that is about to leave for the scheduler. Never raises, never waits."""
    if _pipeline is None or not _may_become_public(request):
        return
    state = manager.rid_to_state[request.rid]
    tokens = request.input_ids

    async def deliver(harmless: int, sensitive: int | None) -> None:
        from sglang.srt.tenancy.control.messages import ScanResult

        page_size = manager.server_args.page_size
        said = speaks_of(page_size, harmless, sensitive)
        if said and _tell is not None:
            await _answered(manager, request.rid, state)
            _tell(
                ScanResult(
                    owner=request.user_id,
                    extra_key=request.extra_key,
                    tokens=tokens[:said],
                    harmless=min(harmless, said),
                    sensitive=sensitive,
                    lora_id=request.lora_id,
                )
            )

    _pipeline.offer(Prompt(tokens, deliver, request.user_id))


def speaks_of(page_size: int, harmless: int, sensitive: int | None) -> int:
    """Count the first tokens that a result speaks of, in whole pages (the last may be cut)."""
    blocked = 0 if sensitive is None else sensitive // page_size + 1
    return max(harmless // page_size, blocked) * page_size


def _may_become_public(request: Any) -> bool:
    """Tell whether the tree may ever show this prompt to others, and it has text."""
    return bool(
        getattr(request, "user_id", None) is not None  # embedding requests have none
        and request.cache_scope is None
        and request.input_ids
        # What is no text has no scan result: images, embeddings.
        and request.mm_inputs is None
        and request.input_embeds is None
        and request.positional_embed_overrides is None
        and request.mm_data_mooncake is None
        and not request.need_wait_for_mm_inputs
        and not _continues_session(request)
    )


def _continues_session(request: Any) -> bool:
    """Tell whether the scheduler puts a session's earlier tokens before these: a result would count
    from the wrong one. Only a session's first request starts where the tree does."""
    session = getattr(request, "session_params", None)
    return session is not None and session.rid is not None


async def _answered(manager: Any, rid: str, state: Any) -> None:
    """Wait until the first output is back: only then the tree holds the prompt, and a result
    finds what it speaks of."""
    while (
        manager.rid_to_state.get(rid) is state
        and not state.finished
        and not state.time_stats.first_token_time
        and not state.event.is_set()
    ):
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(state.event.wait(), _LOOK_AGAIN)
