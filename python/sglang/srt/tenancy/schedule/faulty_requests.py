"""Let a request that the scheduler stumbles over end alone.

Upstream's scheduler ends, and with it the server, on whatever is raised while it takes a request
in, and where nothing is left to sample from. What requests may hold is checked before
(tenancy/validation); this is for what that does not know. A request's data is the same on every
rank, so all ranks refuse it alike.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

logger = logging.getLogger(__name__)

# Of this process's scheduler, for operators.
counts: Counter[str] = Counter()

_TAKING_IN = "sglang.srt.managers.scheduler.Scheduler.handle_generate_request"
_LOGPROBS = "sglang.srt.layers.logprob_processor.get_token_ids_logprobs"
_SAMPLING = "sglang.srt.sampling.sampling_batch_info.SamplingBatchInfo.apply_logits_bias"


def install() -> None:
    """Hook in through upstream's registry, as ``scheduler_handler.install``."""
    from sglang.srt.plugins.hook_registry import HookRegistry, HookSource, HookType

    source = HookSource("tenancy", "sglang")
    HookRegistry.register(_TAKING_IN, _take_in, HookType.AROUND, source=source)
    HookRegistry.register(_LOGPROBS, _make_tensors, HookType.AFTER, source=source)
    HookRegistry.register(_SAMPLING, _leave_something, HookType.AFTER, source=source)


def _take_in(original: Callable[..., None], scheduler: Any, request: Any) -> None:
    if not scheduler.server_args.enable_tenant_cache:
        original(scheduler, request)
        return
    waiting = len(scheduler.waiting_queue)
    try:
        original(scheduler, request)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is this request's
        counts["not_taken_in"] += 1
        logger.error("Refused a request that cannot be taken in: %s", type(error).__name__)
        del scheduler.waiting_queue[waiting:]
        _forget_in_session(scheduler, request)
        scheduler.ipc_channels.send_to_tokenizer.send_output(_refusal(request), request)


def _refusal(request: Any) -> Any:
    from sglang.srt.managers.io_struct import AbortReq

    return AbortReq(
        rid=request.rid,
        finished_reason={
            "type": "abort",
            "status_code": HTTPStatus.BAD_REQUEST.value,
            "message": "request: the engine cannot take it in; check its fields",
            "err_type": "BadRequestError",
        },
    )


def _forget_in_session(scheduler: Any, request: Any) -> None:
    """Take the request out of its session, which has it since before the engine looked at it."""
    params = request.session_params
    session = None if params is None else scheduler.session_controller.sessions.get(params.id)
    if session is None:
        return
    if session.streaming:
        session._inflight = False
    elif request.rid in session.req_nodes:
        session.req_nodes.pop(request.rid)


def _leave_something(_: None, info: Any, logits: torch.Tensor) -> None:
    """Let a grammar that allows no token allow all of them; the one that is drawn then ends it.

    Of nothing but negative infinity no distribution can be made, and all requests of the batch
    would end. Without a grammar no row can be like that.
    """
    if info.grammar_mask is not None:
        barred = logits.isneginf().all(dim=-1, keepdim=True)
        logits.masked_fill_(barred, 0.0)


def _make_tensors(found: tuple[list[Any], list[Any]], *_: Any, **__: Any) -> Any:
    """Let the log probabilities of each request be a tensor, as upstream then takes them to be.

    Of a request that asks for none, beside one in its batch that asks for some, it is a list.
    """
    values, ids = found
    tensors = [value for value in values if not isinstance(value, list)]
    if not tensors:
        return found
    return [tensors[0].new_tensor(v) if isinstance(v, list) else v for v in values], ids
