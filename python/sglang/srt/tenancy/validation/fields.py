"""Check what upstream's requests hold: before they are normalized, and when their tokens are known.

Every front end makes a GenerateReqInput or an EmbeddingReqInput, so no shape of a body passes by.
"""

from __future__ import annotations

import time
from array import array
from collections.abc import Sequence
from typing import Any, TypeAlias

from sglang.srt.managers.io_struct import EmbeddingReqInput, GenerateReqInput
from sglang.srt.tenancy.errors import RequestError, bad_field
from sglang.srt.tenancy.validation.bounds import Bounds
from sglang.srt.tenancy.validation.sampling import check_sampling

EngineRequest: TypeAlias = GenerateReqInput | EmbeddingReqInput

# Written by the server itself on a request's way; a front end leaves them unset.
_INTERNAL = (
    "http_worker_ipc",
    "lora_id",
    "positional_embed_overrides",
    "bootstrap_host",
    "bootstrap_port",
    "bootstrap_room",
    "bootstrap_pair_key",
    "decode_tp_size",
    "disagg_prefill_dp_rank",
    "external_trace_header",
    "need_wait_for_mm_inputs",
    "num_items_assigned",
    "mm_data_mooncake",
    "encoder_urls",
)
# What reads the inside of the model, or runs code of the client's.
_OPERATORS = (
    "custom_logit_processor",
    "return_hidden_states",
    "return_routed_experts",
    "return_indexer_topk",
    "return_pooled_hidden_states",
    # Whose a picture's place in the cache of pictures is: it must be the picture's.
    "mm_hashes",
)
# One value, or a list with one for each prompt.
_ONE_EACH = (
    "return_logprob",
    "logprob_start_len",
    "top_logprobs_num",
    "return_sampling_mask",
    "lora_path",
    "extra_key",
)
_NAMES = ("rid", "session_id", "conversation_id", "routing_key", "extra_key", "lora_path")
_LONGEST_NAME = 1024  # characters
_MEDIA = ("image_data", "video_data", "audio_data")
_OLDEST = 3600.0  # seconds since a request was received


def check_request(
    obj: EngineRequest, bounds: Bounds, labels: Sequence[str], operator: bool
) -> None:
    """Check a request as its front end made it. Raises RequestError 400 or 403.

    ``labels``: names of metric labels that requests may set.
    """
    for name in _INTERNAL:
        if getattr(obj, name, None) is not None:
            raise bad_field(name, "is the server's own; leave it out")
    if not operator:
        for name in _OPERATORS:
            if _is_set(getattr(obj, name, None)):
                raise RequestError(403, name, f"{name}: for operators only; leave it out")
    for name in _NAMES:
        _check_name(name, getattr(obj, name, None))
    _check_labels(getattr(obj, "custom_labels", None), labels)
    received = getattr(obj, "received_time", None)
    if received is not None and not 0 <= time.monotonic() - received < _OLDEST:
        obj.received_time = None
    prompts = _count_prompts(obj)
    if prompts is not None and prompts > bounds.prompts:
        raise bad_field(
            "prompt", f"{prompts} prompts in one request; give at most {bounds.prompts}"
        )
    _check_session(getattr(obj, "session_params", None))
    _check_samples(obj, prompts, bounds)
    _check_lists(obj, prompts)
    media = sum(_count_media(getattr(obj, name, None)) for name in _MEDIA)
    if media > bounds.media:
        raise bad_field("image_data", f"{media} media; give at most {bounds.media}")


def check_prompt(
    obj: EngineRequest, tokens: Sequence[int] | None, bounds: Bounds, vocab: int, context: int
) -> None:
    """Check one prompt of a normalized request, whose tokens are known. Raises RequestError 400.

    ``vocab``: tokens that the model knows. ``context``: tokens that it can take.
    """
    length = len(tokens or ())
    if getattr(obj, "input_ids", None) is not None:
        _check_tokens("input_ids", obj.input_ids, vocab)
    if length == 0 and not obj.contains_mm_input():
        raise bad_field("prompt", "holds no token")
    if isinstance(obj, EmbeddingReqInput):
        return
    check_sampling(obj.sampling_params, bounds, vocab)
    in_session = bool(obj.session_params)
    start = _whole(obj, "logprob_start_len", -1, context if in_session else length)
    top = _whole(obj, "top_logprobs_num", 0, vocab)
    if obj.token_ids_logprob is not None:
        _check_tokens("token_ids_logprob", obj.token_ids_logprob, vocab)
    if obj.return_logprob:
        answer = obj.sampling_params.get("max_new_tokens")
        answer = max(context - length, 0) if answer is None else min(answer, context)
        positions = answer + (0 if start == -1 else length - min(start, length))
        values = positions * (1 + top + len(obj.token_ids_logprob or ()))
        if values > bounds.logprobs:
            raise bad_field(
                "top_logprobs", f"{values} log probabilities; ask for at most {bounds.logprobs}"
            )
    _whole(obj, "routed_experts_start_len", 0, context)
    for position in obj.multi_item_delimiter_indices or ():
        if not (isinstance(position, int) and 0 <= position < length):
            raise bad_field("multi_item_delimiter_indices", f"no positions of {length} tokens")


def _count_prompts(obj: EngineRequest) -> int | None:
    """Count the prompts as normalizing will, or None where it is one that is no list."""
    if obj.text is not None:
        return None if isinstance(obj.text, str) else len(obj.text)
    if obj.input_ids is not None:
        ids = obj.input_ids
        return len(ids) if ids and not isinstance(ids[0], int) else None
    return len(obj.input_embeds) if isinstance(obj.input_embeds, list) else None


def _check_samples(obj: EngineRequest, prompts: int | None, bounds: Bounds) -> None:
    params = obj.sampling_params
    several = params if isinstance(params, list) else [params or {}]
    if isinstance(params, list) and len(params) != prompts:
        given = "one prompt that is no list" if prompts is None else f"{prompts} prompts"
        raise bad_field("sampling_params", f"{len(params)} for {given}; give one for each")
    for one in several:
        if not isinstance(one, dict):
            raise bad_field("sampling_params", f"a value of type {type(one).__name__} is no object")
        samples = one.get("n", 1)
        if type(samples) is not int or not 1 <= samples <= bounds.samples:
            raise bad_field("n", f"{_shown(samples)} is no whole number from 1 to {bounds.samples}")


def _check_lists(obj: EngineRequest, prompts: int | None) -> None:
    for name in _ONE_EACH:
        value = getattr(obj, name, None)
        if isinstance(value, list) and len(value) != prompts:
            given = "one prompt that is no list" if prompts is None else f"{prompts} prompts"
            raise bad_field(name, f"{len(value)} values for {given}; give one, or one for each")


def _count_media(value: Any) -> int:
    if isinstance(value, list):
        return sum(map(_count_media, value))
    return value is not None


def _check_name(field: str, value: Any) -> None:
    for name in value if isinstance(value, list) else [value]:
        if name is None:
            continue
        if not isinstance(name, str):
            raise bad_field(field, f"a value of type {type(name).__name__} is no string")
        if len(name) > _LONGEST_NAME:
            raise bad_field(field, f"give at most {_LONGEST_NAME} characters")


def _check_labels(labels: Any, known: Sequence[str]) -> None:
    if labels is None:
        return
    if not isinstance(labels, dict) or not set(labels) <= set(known):
        raise bad_field("custom_labels", "only those that the server was started with")


def _check_tokens(field: str, tokens: Any, vocab: int) -> None:
    try:
        held = array("q", tokens)
    except (TypeError, OverflowError):
        raise bad_field(field, "no list of token ids") from None
    if held and not (min(held) >= 0 and max(held) < vocab):
        wrong = next(token for token in held if not 0 <= token < vocab)
        raise bad_field(field, f"{wrong} is no token; the model knows 0 to {vocab - 1}")


def _check_session(params: Any) -> None:
    if not params:
        return
    if not isinstance(params, dict):
        raise bad_field("session_params", "no object")
    offset = params.get("offset")
    if offset is not None and not (type(offset) is int and 0 <= offset < 2**31):
        raise bad_field("session_params.offset", "no whole number from 0 on")
    _check_name("session_params.id", params.get("id"))
    _check_name("session_params.rid", params.get("rid"))
    unknown = params.keys() - {"id", "rid", "offset", "replace", "drop_previous_output"}
    if unknown:
        raise bad_field(f"session_params.{sorted(unknown)[0][:40]}", "unknown; leave it out")


def _whole(obj: Any, name: str, least: int, most: int) -> int:
    value = getattr(obj, name)
    if type(value) is not int or not least <= value <= most:
        raise bad_field(name, f"{_shown(value)} is no whole number from {least} to {most}")
    return value


def _shown(value: Any) -> str:
    if isinstance(value, float) or (isinstance(value, int) and abs(value) < 2**63):
        return str(value)
    return f"a value of type {type(value).__name__}"


def _is_set(value: Any) -> bool:
    return any(map(_is_set, value)) if isinstance(value, list) else value not in (None, False, "")
