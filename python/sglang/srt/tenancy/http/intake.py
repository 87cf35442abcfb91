"""Take requests into the engine: check them, give them ids, and wait until limits have room.

All front ends of the server end in TokenizerManager.generate_request(). What is done here, after
upstream has normalized a request, no shape of a body and no endpoint passes by.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from sglang.srt.managers.io_struct import GenerateReqInput
from sglang.srt.multimodal.mm_utils import has_valid_data
from sglang.srt.tenancy.errors import bad_field
from sglang.srt.tenancy.grammar.trials import GrammarTrials
from sglang.srt.tenancy.http import off_loop
from sglang.srt.tenancy.http.engine_call import EngineCall
from sglang.srt.tenancy.http.log import logger
from sglang.srt.tenancy.http.rate_limiter import BYTES_PER_TOKEN, Permit, RateLimiter
from sglang.srt.tenancy.http.request_context import current_identity, normalize_once
from sglang.srt.tenancy.http.request_ids import logical_id
from sglang.srt.tenancy.http.while_connected import while_connected
from sglang.srt.tenancy.media.fetch import Fetcher
from sglang.srt.tenancy.media.hosts import MediaHosts
from sglang.srt.tenancy.media.network import NameLookup
from sglang.srt.tenancy.media.references import FIELDS, RequestMedia
from sglang.srt.tenancy.media.remote import RemoteMedia
from sglang.srt.tenancy.media.slots import MOST_IN_ALL
from sglang.srt.tenancy.user_id import account_name
from sglang.srt.tenancy.validation.bounds import Bounds
from sglang.srt.tenancy.validation.fields import EngineRequest, check_prompt, check_request
from sglang.srt.tenancy.validation.sampling import grammar_of

if TYPE_CHECKING:
    from sglang.srt.managers.tokenizer_manager import TokenizerManager
    from sglang.srt.tenancy.flags import TenantOptions

Prompt: TypeAlias = str | Sequence[int]


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
        prompts = _prompts(obj)
        self._check_length(prompts)
        media = await off_loop.run_off_loop(self._media_of, obj, identity.is_operator)
        users = [account_name(user) for user in _each(getattr(obj, "user_id", None))]
        call = await self._let_in(obj, prompts, users, request)
        try:
            await self._try_grammars(obj, users, request)
            await self._bring_media(obj, media, identity.owner, request)
        except BaseException:
            call.end()
            raise
        return call

    async def _let_in(
        self, obj: EngineRequest, prompts: Sequence[Prompt], users: Sequence[str], request: Any
    ) -> EngineCall:
        """Wait until the limits of all its users have room."""
        tokens: defaultdict[str, float] = defaultdict(float)
        for user, prompt in zip(users, prompts, strict=False):
            tokens[user] += len(prompt) / (BYTES_PER_TOKEN if isinstance(prompt, str) else 1)
        entering = self.limiter.enter(Counter(users), tokens)
        permit = await while_connected(entering, request, self._give_back)
        by_id = dict(zip(_each(obj.rid), itertools.cycle(users), strict=False))
        return EngineCall(self.limiter, permit, by_id, self.calls)

    async def _bring_media(
        self, obj: EngineRequest, media: RequestMedia, owner: str, request: Any
    ) -> None:
        """Fetch what lies elsewhere, and have no picture larger than it may be."""
        await while_connected(self.remote_media.bring(media, owner), request)
        if obj.image_data is not None:
            await asyncio.to_thread(media.check_pictures, self.most_pixels)

    async def _try_grammars(self, obj: EngineRequest, users: Sequence[str], request: Any) -> None:
        """Have each grammar of a request tried before the scheduler sees it."""
        if self.trials is None or not isinstance(obj, GenerateReqInput):
            return
        for user, field, grammar in _grammars(obj, users, self.bounds):
            await while_connected(self.trials.check(user, field, grammar), request)

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

    def _check_length(self, prompts: Sequence[Prompt]) -> None:
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


def _prompts(obj: EngineRequest) -> list[Prompt]:
    """Return each prompt once, as text or as token ids."""
    held = obj.input_ids if obj.input_ids is not None else obj.text
    if held is None:
        return []
    prompts: list[Any] = [held] if obj.is_single else list(held)[: obj.batch_size]
    return [prompt for prompt in prompts if prompt is not None]


def _each(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _longest_token(tokenizer: Any) -> int:
    """Return the most characters that one token can stand for."""
    if tokenizer is None:
        return 1
    return max(map(len, tokenizer.get_vocab()), default=1)
