"""Take requests into the engine: check them, count them, charge them, and give them ids.

All front ends of the server end in TokenizerManager.generate_request(). What is done here, after
upstream has normalized a request, no shape of a body and no endpoint passes by. The steps are
attached through upstream's hook registry, once for each HTTP process.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from sglang.srt.managers.io_struct import GenerateReqInput
from sglang.srt.multimodal.mm_utils import has_valid_data
from sglang.srt.plugins.hook_registry import HookRegistry, HookSource, HookType
from sglang.srt.tenancy.errors import RequestError, bad_field
from sglang.srt.tenancy.grammar.trials import GrammarTrials
from sglang.srt.tenancy.http import anthropic_tools, off_loop, ollama, processor_faults
from sglang.srt.tenancy.http.held_response import current_response
from sglang.srt.tenancy.http.log import logger, where
from sglang.srt.tenancy.http.rate_limiter import BYTES_PER_TOKEN, Permit, RateLimiter
from sglang.srt.tenancy.http.request_context import current_identity, normalize_once
from sglang.srt.tenancy.http.request_ids import client_id, internal_id, logical_id
from sglang.srt.tenancy.media.fetch import Fetcher
from sglang.srt.tenancy.media.hosts import MediaHosts
from sglang.srt.tenancy.media.network import NameLookup
from sglang.srt.tenancy.media.references import FIELDS, RequestMedia
from sglang.srt.tenancy.media.remote import RemoteMedia
from sglang.srt.tenancy.media.slots import MOST_IN_ALL
from sglang.srt.tenancy.response_cache.computation import mark_aborted
from sglang.srt.tenancy.user_id import account_name
from sglang.srt.tenancy.validation.bounds import Bounds
from sglang.srt.tenancy.validation.fields import EngineRequest, check_prompt, check_request
from sglang.srt.tenancy.validation.message import check_message
from sglang.srt.tenancy.validation.sampling import grammar_of

if TYPE_CHECKING:
    from sglang.srt.managers.tokenizer_manager import TokenizerManager
    from sglang.srt.tenancy.flags import TenantOptions

T = TypeVar("T")

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
_LOOK_FOR_CLIENT = 0.25  # seconds between two looks whether a client that waits is still there


class Intake:
    """What one HTTP process lets into its tokenizer manager, and what of it is under way."""

    def __init__(
        self,
        manager: TokenizerManager,
        limiter: RateLimiter,
        trials: GrammarTrials | None = None,
    ):
        self.manager = manager
        self.trials = trials
        self.options = manager.server_args
        self.limiter = limiter
        self.bounds = Bounds.of(self.options)
        self.labels = self.options.tokenizer_metrics_allowed_custom_labels or ()
        self.longest_token = _longest_token(manager.tokenizer)
        self.most_pixels = self.options.tenant_max_media_pixels
        self.remote_media = _remote_media(self.options)
        self.calls: dict[str, EngineCall] = {}

    async def take(self, obj: EngineRequest, request: Any) -> EngineCall | None:
        """Check a request and let it in, when its user's limits have room. None: the server's own.

        Raises RequestError: what is wrong with it, or which limit is full.
        """
        identity = current_identity()
        if identity is None or identity.is_the_server_itself:
            normalize_once(obj, self.options)
            return None
        check_request(obj, self.bounds, self.labels, identity.is_operator)
        normalize_once(obj, self.options)
        texts = _texts(obj)
        self._check_length(texts)
        media = await off_loop.run_off_loop(self._media_of, obj, identity.is_operator)
        users = [account_name(user) for user in _each(getattr(obj, "user_id", None))]
        call = EngineCall(self, dict(zip(_each(obj.rid), itertools.cycle(users), strict=False)))
        answers = Counter(users)
        weights: defaultdict[str, float] = defaultdict(float)
        for user, prompt in zip(users, texts, strict=False):
            weights[user] += len(prompt) / (BYTES_PER_TOKEN if isinstance(prompt, str) else 1)
        entering = self.limiter.enter(answers, weights)
        call.permit = await _while_connected(entering, request, self._give_back)
        self.calls.update(dict.fromkeys(call.users, call))
        try:
            await self._try_grammars(obj, users, request)
            await _while_connected(self.remote_media.bring(media, identity.owner), request)
            if obj.image_data is not None:
                await asyncio.to_thread(media.check_pictures, self.most_pixels)
        except BaseException:
            call.end()
            raise
        return call

    async def _try_grammars(self, obj: EngineRequest, users: Sequence[str], request: Any) -> None:
        """Have each grammar of a request tried before the scheduler sees it."""
        if self.trials is None or not isinstance(obj, GenerateReqInput):
            return
        for user, field, grammar in _grammars(obj, users, self.bounds):
            await _while_connected(self.trials.check(user, field, grammar), request)

    def _media_of(self, obj: EngineRequest, operator: bool) -> RequestMedia:
        """Find a request's media. Raises RequestError, where it may not have those."""
        media = RequestMedia(
            obj,
            self.options.tenant_max_media_bytes,
            remote=self.options.tenant_remote_media != "off",
            operator=operator,
        )
        if self.manager.mm_processor is None and obj.contains_mm_input():
            field = next(name for name in FIELDS if has_valid_data(getattr(obj, name, None)))
            raise bad_field(field, "this model takes text only; leave it out")
        return media

    def _give_back(self, entered: asyncio.Future[Permit]) -> None:
        if not entered.cancelled() and not entered.exception():
            self.limiter.leave(entered.result())

    def _check_length(self, prompts: Sequence[str | Sequence[int]]) -> None:
        """Refuse what cannot fit the context, however well it is tokenized."""
        context = self.manager.context_len
        if self.options.allow_auto_truncate:
            return
        for prompt in prompts:
            most = context * self.longest_token if isinstance(prompt, str) else context
            if len(prompt) > most:
                kind = "characters" if isinstance(prompt, str) else "tokens"
                raise bad_field(
                    "prompt", f"{len(prompt)} {kind} do not fit the context of {context} tokens"
                )

    def check_one(self, obj: EngineRequest, tokens: Sequence[int] | None) -> None:
        """Check one prompt when its tokens are known, and charge them, refused or not."""
        rid = logical_id(obj.rid)
        call = self.calls.get(rid)
        if call is not None:
            call.charge(rid, len(tokens or ()))
        vocab = self.manager.model_config.vocab_size
        check_prompt(obj, tokens, self.bounds, vocab, self.manager.context_len)


class EngineCall:
    """One request to the engine: what it was let in with, and what it was charged.

    ``users``: whose each of its prompts is, by the prompts' ids.
    """

    def __init__(self, intake: Intake, users: dict[str, str]):
        self.intake = intake
        self.users = users
        self.permit: Permit | None = None
        self._answered: Counter[str] = Counter()

    def charge(self, rid: str, tokens: int) -> None:
        """Charge tokens of a prompt, or of its answers."""
        if self.permit is not None:
            self.intake.limiter.charge(self.permit, self.users[rid], tokens)

    def charge_answer(self, rid: str, tokens: int) -> None:
        """Charge what an answer has grown by; ``tokens``: all that it has by now."""
        grown = tokens - self._answered[rid]
        if grown > 0:
            self._answered[rid] = tokens
            self.charge(logical_id(rid), grown)

    def end(self) -> None:
        """Make room for the next. Twice is as good as once."""
        for rid in self.users:
            self.intake.calls.pop(rid, None)
        if self.permit is not None:
            self.intake.limiter.leave(self.permit)


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
    assert _intake is not None
    response = current_response()
    call = None
    answered = False
    try:
        call = await _take(obj, request)
        async for output in original(manager, obj, request):
            if not answered and response is not None and (fault := _fault_of(output)):
                response.refuse(fault)
            answered = True
            if _was_aborted(output):
                mark_aborted()
            if call is not None:
                if not getattr(obj, "stream", False):
                    call.end()  # who takes one answer does not come for the end
                _show_client_ids(output)
            if request is not None and request.scope["path"].endswith(_COMPLETIONS):
                _name_alternatives(output)
            if response is not None:
                await response.release()
            yield output
    except RequestError as error:
        if response is not None:
            response.refuse(error)
        raise
    except _STUMBLES as error:
        if answered or call is None:
            raise
        refusal = bad_field("request", f"cannot be read as it is ({type(error).__name__})")
        logger.warning("Refused a request that cannot be read: %s", where(error))
        if response is not None:
            response.refuse(refusal)
        raise refusal from None
    except (ValueError, RuntimeError) as error:
        fault = None if answered or call is None else processor_faults.refusal_of(error, obj)
        if fault is None:
            raise
        logger.warning("Refused media that cannot be read: %s", where(error))
        if response is not None:
            response.refuse(fault)
        raise fault from None
    finally:
        if call is not None:
            call.end()


def _was_aborted(output: Any) -> bool:
    """Tell whether an answer, or one of several, was cut off. Some endpoints do not say so."""
    each = output if isinstance(output, list) else [output]
    told = [one.get("meta_info", {}) for one in each if isinstance(one, dict)]
    return any((meta.get("finish_reason") or {}).get("type") == "abort" for meta in told)


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


async def _while_connected(
    coroutine: Coroutine[Any, Any, T],
    request: Any,
    give_back: Callable[[asyncio.Future[T]], None] | None = None,
) -> T:
    """Wait as long as the client does. Raises ValueError where it is gone.

    ``give_back``: called then, for what has come meanwhile.
    """
    waiting = asyncio.ensure_future(coroutine)
    try:
        while not (await asyncio.wait([waiting], timeout=_LOOK_FOR_CLIENT))[0]:
            if request is not None and await request.is_disconnected():
                raise ValueError("The client is gone")
    except BaseException:
        waiting.cancel()
        if give_back is not None:
            waiting.add_done_callback(give_back)
        raise
    return waiting.result()


def _grammars(
    obj: GenerateReqInput, users: Sequence[str], bounds: Bounds
) -> Iterable[tuple[str, str, str]]:
    """Return each grammar of a normalized request once: whose, in which field, and what it is."""
    found: dict[tuple[str, str, str], None] = {}
    for user, params in zip(itertools.cycle(users), _each(obj.sampling_params), strict=False):
        grammar = grammar_of(params, bounds) if isinstance(params, dict) else None
        if grammar is not None:
            field, text = grammar
            found[user, field, text] = None
    return found


def _remote_media(options: TenantOptions) -> RemoteMedia:
    hosts = MediaHosts.of(options.tenant_remote_media, options.tenant_media_host or ())
    return RemoteMedia(
        Fetcher(hosts, NameLookup(MOST_IN_ALL)),
        hosts.described,
        options.tenant_media_timeout,
        options.tenant_max_media_bytes,
        logger,
    )


def _texts(obj: EngineRequest) -> list[str | Sequence[int]]:
    """Return each prompt once, as text or as token ids."""
    held = obj.input_ids if obj.input_ids is not None else obj.text
    if held is None:
        return []
    prompts: list[Any] = [held] if obj.is_single else list(held)[: obj.batch_size]
    return [prompt for prompt in prompts if prompt is not None]


def _each(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _show_client_ids(output: Any) -> None:
    for one in _each(output):
        one["meta_info"]["id"] = client_id(one["meta_info"]["id"])


def _name_alternatives(output: Any) -> None:
    """Have no alternatives of a prompt's tokens where upstream's completions look for some."""
    for one in _each(output):
        if "input_token_logprobs" in one["meta_info"]:
            one["meta_info"].setdefault("input_top_logprobs", None)


def _fault_of(output: Any) -> RequestError | None:
    """Return what the scheduler refused the request for, if it did: in a stream it is an answer."""
    if isinstance(output, list):
        return None
    reason = output["meta_info"].get("finish_reason")
    if not isinstance(reason, dict) or reason.get("status_code") != 400:
        return None
    return RequestError(400, "request", f"request: {reason.get('message')}")


def _longest_token(tokenizer: Any) -> int:
    """Return the most characters that one token can stand for."""
    if tokenizer is None:
        return 1
    return max(map(len, tokenizer.get_vocab()), default=1)
