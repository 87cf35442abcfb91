"""Decide whether a request may be answered from the cache, and under which key."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from sglang.srt.tenancy.errors import bad_field
from sglang.srt.tenancy.response_cache.cache_control import CacheControl
from sglang.srt.tenancy.response_cache.endpoints.endpoint import Body, Endpoint
from sglang.srt.tenancy.response_cache.entry import SCHEMA, Key

BUCKET = "cache_bucket"
MOST_SAMPLES = 64
USER_FIELDS = ("user_id", "safety_identifier", "user")

# What decides how an answer is told, and to whom, but not what it is.
_LEFT_OUT = ("stream", "stream_options", "rid", BUCKET, *USER_FIELDS)
# What makes an answer depend on more than the request, or leave more behind than an answer.
_STATEFUL = (
    *("previous_response_id", "conversation", "session_params", "background"),
    *("bootstrap_host", "bootstrap_room", "return_hidden_states", "return_routed_experts"),
    *("custom_logit_processor", "custom_params", "input_embeds"),
)
_SEEDS = ("seed", "sampling_seed")
_MEDIA = ("image", "video", "audio")


@dataclass(frozen=True, slots=True)
class CacheableRequest:
    """A request that the cache may answer.

    ``body``: as it is passed on, without our fields. ``samples``: asked for out of a ``bucket`` of
    so many; no bucket: 0. ``fresh``: what is kept does not do. ``max_age``: seconds.
    """

    endpoint: Endpoint
    key: Key
    body: Body
    streamed: bool
    rid: str | None = None
    samples: int = 1
    bucket: int = 0
    fresh: bool = False
    max_age: int | None = None


@dataclass(frozen=True, slots=True)
class Rules:
    """Which requests a server keeps answers of.

    ``greedy``: whether a request's answer is always the same, by the temperature that it resolves
    to. ``engine``: what besides requests decides answers, as it is now: model, weights, template.
    """

    greedy: Callable[[str, Mapping[str, Any]], bool]
    engine: Callable[[], Any]

    def asked(
        self,
        endpoint: Endpoint,
        owner: str,
        headers: Iterable[tuple[bytes, bytes]],
        body: Mapping[str, Any],
    ) -> CacheableRequest | None:
        """Return what a user asks for; None for what the cache has nothing to do with.

        Raises RequestError 400 for a bucket that is none.
        """
        bucket = _bucket(body)
        control = CacheControl.of(headers)
        explicit = bool(bucket) or control.max_age is not None
        if control.no_store or not _stateless(body):
            return None
        if not explicit and (_names_media(body) or not self.greedy(endpoint.path, body)):
            return None
        passed_on = {name: value for name, value in body.items() if name != BUCKET}
        number = endpoint.samples(body)
        if bucket and (number is None or _has_seed(body)):
            bucket = 0  # samples of one seed are equal; those of several prompts are not of one key
        kept = endpoint.with_samples(passed_on, 1) if bucket else passed_on
        digest = _digest(endpoint.path, kept, bool(bucket), self.engine())
        if digest is None:
            return None
        return CacheableRequest(
            endpoint=endpoint,
            key=Key(owner, digest),
            body=passed_on,
            streamed=body.get("stream") is True,
            rid=body.get("rid"),
            samples=number or 1,
            bucket=bucket,
            fresh=control.no_cache,
            max_age=control.max_age,
        )


def without_own_fields(body: Mapping[str, Any]) -> Body:
    """Return a body as an engine knows it."""
    return {name: value for name, value in body.items() if name != BUCKET}


def _digest(path: str, body: Mapping[str, Any], bucket: bool, engine: Any) -> bytes | None:
    """Hash all that decides an answer; None where JSON cannot say it again (huge integers)."""
    what = {name: value for name, value in body.items() if name not in _LEFT_OUT}
    try:
        text = orjson.dumps([SCHEMA, path, bucket, engine, what], option=orjson.OPT_SORT_KEYS)
    except TypeError:
        return None
    return hashlib.sha256(text).digest()


def _bucket(body: Mapping[str, Any]) -> int:
    value = body.get(BUCKET)
    if value is None:
        return 0
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= MOST_SAMPLES:
        return value
    shown = repr(value)[:40]
    raise bad_field(BUCKET, f"{shown} is out of range; give an integer from 1 to {MOST_SAMPLES}")


def _stateless(body: Mapping[str, Any]) -> bool:
    if any(body.get(name) for name in _STATEFUL):
        return False
    options = body.get("stream_options")
    if isinstance(options, dict) and options.get("continuous_usage_stats"):
        return False
    tools = body.get("tools")
    if isinstance(tools, list) and not all(map(_is_function, tools)):
        return False
    return isinstance(body.get("rid"), str | None)


def _is_function(tool: Any) -> bool:
    """Tell whether a tool is the client's to run. Anthropic's have no type, or "custom"."""
    return isinstance(tool, dict) and tool.get("type") in (None, "function", "custom")


def _has_seed(body: Mapping[str, Any]) -> bool:
    parameters = body.get("sampling_params")
    places = (body, parameters if isinstance(parameters, dict) else {})
    return any(place.get(name) is not None for place in places for name in _SEEDS)


def _names_media(value: Any, key: str = "") -> bool:
    """Tell whether something is to be fetched, which may have changed by the next time."""
    if isinstance(value, str):
        medium = key.startswith(_MEDIA) or key == "url"
        return medium and value.lower().startswith(("http:", "https:"))
    if isinstance(value, dict):
        return any(_names_media(part, name) for name, part in value.items())
    return isinstance(value, list) and any(_names_media(part, key) for part in value)
