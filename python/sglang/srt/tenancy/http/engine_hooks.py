"""Where requests enter upstream's tokenizer manager, and where its outputs leave it.

The steps of the intake are attached through upstream's hook registry, once for each HTTP process.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from sglang.srt.plugins.hook_registry import HookRegistry, HookSource, HookType
from sglang.srt.tenancy.errors import RequestError, bad_field
from sglang.srt.tenancy.grammar.trials import GrammarTrials
from sglang.srt.tenancy.http import anthropic_tools, off_loop, ollama, processor_faults
from sglang.srt.tenancy.http.engine_call import EngineCall
from sglang.srt.tenancy.http.engine_outputs import (
    fault_of,
    name_alternatives,
    show_client_ids,
    was_aborted,
)
from sglang.srt.tenancy.http.held_response import current_response
from sglang.srt.tenancy.http.intake import Intake
from sglang.srt.tenancy.http.log import logger, where
from sglang.srt.tenancy.http.rate_limiter import RateLimiter
from sglang.srt.tenancy.http.request_context import current_identity
from sglang.srt.tenancy.http.request_ids import client_id, internal_id, logical_id
from sglang.srt.tenancy.response_cache.computation import mark_aborted
from sglang.srt.tenancy.validation.fields import EngineRequest
from sglang.srt.tenancy.validation.message import check_message

if TYPE_CHECKING:
    from sglang.srt.managers.tokenizer_manager import TokenizerManager

_MANAGER = "sglang.srt.managers.tokenizer_manager.TokenizerManager"
# What Python raises where upstream takes a type for granted. Its own refusals are ValueErrors.
_STUMBLES = (
    TypeError,
    AttributeError,
    LookupError,
    ArithmeticError,
    AssertionError,
    RecursionError,
    NotImplementedError,
    msgspec.MsgspecError,
)
_COMPLETIONS = "/v1/completions"

_intake: Intake | None = None


def install(
    manager: TokenizerManager, limiter: RateLimiter, trials: GrammarTrials | None = None
) -> None:
    """Attach the intake to this process's tokenizer manager. Twice is as good as once."""
    global _intake
    _intake = Intake(manager, limiter, trials)
    hooks: list[tuple[str, Callable[..., Any], HookType]] = [
        ("generate_request", _generate, HookType.AROUND),
        ("abort_request", _abort, HookType.AROUND),
        ("_tokenize_texts", _tokenize, HookType.AROUND),
        ("_handle_batch_output", _charge, HookType.BEFORE),
        ("_validate_one_request", _check_one, HookType.BEFORE),
        ("score_request", _check_score, HookType.BEFORE),
        ("open_session", _clear_routing, HookType.BEFORE),
        ("close_session", _clear_routing, HookType.BEFORE),
        ("_dispatch_to_scheduler", _check_message, HookType.BEFORE),
    ]
    source = HookSource("tenant intake", None)
    for method, hook, kind in hooks:
        target = f"{_MANAGER}.{method}"
        if target not in HookRegistry._hooks:
            HookRegistry.register(target, hook, kind, source=source)
    off_loop.install()
    if manager.mm_processor is not None:
        processor_faults.install()
    ollama.install()
    anthropic_tools.install()
    HookRegistry.apply_hooks()


def under_way() -> dict[str, int]:
    """Count what is under way in this process; all zero where no request is.

    ``engine_requests``: that upstream's tokenizer manager waits for; ``engine_calls``: that
    were let in; ``running`` and ``waiting``: as the limits count them.
    """
    assert _intake is not None
    running, waiting = _intake.limiter.under_way()
    return {
        "engine_requests": len(_intake.manager.rid_to_state),
        "engine_calls": len(_intake.calls),
        "running": running,
        "waiting": waiting,
    }


async def _generate(
    original: Callable[..., AsyncIterator[Any]],
    manager: TokenizerManager,
    obj: EngineRequest,
    request: Any = None,
) -> AsyncIterator[Any]:
    """Take a request in, and pass on its answers, under the ids that its client knows."""
    response = current_response()
    call = None
    answered = False
    try:
        call = await _take(obj, request)
        async for output in original(manager, obj, request):
            if not answered and response is not None and (fault := fault_of(output)):
                response.refuse(fault)
            answered = True
            if was_aborted(output):
                mark_aborted()
            if call is not None:
                if not getattr(obj, "stream", False):
                    call.end()  # who takes one answer does not come for the end
                show_client_ids(output)
            if request is not None and request.scope["path"].endswith(_COMPLETIONS):
                name_alternatives(output)
            if response is not None:
                await response.release()
            yield output
    except Exception as error:
        refusal = _refusal_of(error, obj, accepted=call is not None and not answered)
        if refusal is None:
            raise
        if response is not None:
            response.refuse(refusal)
        if refusal is error:
            raise
        raise refusal from None
    finally:
        if call is not None:
            call.end()


def _refusal_of(error: Exception, obj: EngineRequest, *, accepted: bool) -> RequestError | None:
    """Return what its client is told; None: upstream's own words, or a fault that is not its.

    ``accepted``: the request was let in, and nothing of an answer is out.
    """
    if isinstance(error, RequestError):
        return error
    if not accepted:
        return None
    if isinstance(error, _STUMBLES):
        logger.warning("Refused a request that cannot be read: %s", where(error))
        return bad_field("request", f"cannot be read as it is ({type(error).__name__})")
    if not isinstance(error, (ValueError, RuntimeError)):
        return None
    fault = processor_faults.refusal_of(error, obj)
    if fault is not None:
        logger.warning("Refused media that cannot be read: %s", where(error))
    return fault


async def _take(obj: EngineRequest, request: Any) -> EngineCall | None:
    """Take a request in; of one that is refused, leave nothing that could be aborted.

    Upstream aborts whatever was asked for as a stream, two seconds after the answer.
    """
    assert _intake is not None
    try:
        return await _intake.take(obj, request)
    except Exception:
        obj.is_single, obj.rid = False, []
        raise


def _abort(
    original: Callable[..., None], manager: TokenizerManager, rid: str = "", abort_all: bool = False
) -> None:
    """Abort a request of the user who asks; of an operator, each that its user knows by this id."""
    if (
        abort_all
        or not rid
        or rid in manager.rid_to_state
        or logical_id(rid) in manager.rid_to_state
    ):
        original(manager, rid, abort_all)
        return
    identity = current_identity()
    if identity is not None:
        original(manager, internal_id(identity.owner, rid), False)
        return
    for internal in [known for known in manager.rid_to_state if client_id(known) == rid]:
        original(manager, internal, False)


async def _tokenize(
    original: Callable[..., Coroutine[Any, Any, Any]],
    manager: TokenizerManager,
    texts: Any,
    *args: Any,
    **kwargs: Any,
) -> Any:
    """Tokenize; long texts in a thread, or all other users would wait for them."""
    batched = manager.async_dynamic_batch_tokenizer is not None  # that one does wait
    size = 0 if batched else sum(map(len, [texts] if isinstance(texts, str) else texts))
    return await off_loop.finish_off_loop(original(manager, texts, *args, **kwargs), size)


def _check_one(manager: TokenizerManager, obj: EngineRequest, tokens: Sequence[int] | None) -> None:
    assert _intake is not None
    _intake.check_one(obj, tokens)


def _clear_routing(manager: TokenizerManager, obj: Any, *_: Any, **__: Any) -> None:
    """Take out what only the server may say of a message: by such an id a busy scheduler drops it
    as a health check, and whoever waits for the answer would wait for ever."""
    obj.rid = obj.http_worker_ipc = None


def _check_score(manager: TokenizerManager, *args: Any, **asked: Any) -> None:
    if "label_token_ids" in asked and not asked["label_token_ids"]:
        raise bad_field("label_token_ids", "holds no token to score")


def _check_message(manager: TokenizerManager, message: Any) -> None:
    check_message(message)


def _charge(manager: TokenizerManager, outputs: Any) -> None:
    """Charge what answers have grown by, with each of the engine's outputs."""
    assert _intake is not None
    tokens = getattr(outputs, "completion_tokens", None) or ()
    for rid, answered in zip(outputs.rids, tokens, strict=False):
        call = _intake.calls.get(logical_id(rid))
        if call is not None:
            call.charge_answer(rid, answered)
