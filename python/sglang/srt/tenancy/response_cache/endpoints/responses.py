"""/v1/responses: items, each told of in events of its own."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from sglang.srt.tenancy.response_cache.endpoints import answers, sse
from sglang.srt.tenancy.response_cache.endpoints.endpoint import Body, Split
from sglang.srt.tenancy.response_cache.endpoints.response_items import events_of_items
from sglang.srt.tenancy.response_cache.endpoints.single import SingleSample

# The events that end a stream well, and what they say that the response is.
_ENDINGS = {"response.completed": "completed", "response.incomplete": "incomplete"}


@dataclass(frozen=True, slots=True)
class Responses(SingleSample):
    """``sglang``: make whole answers count as SGLang's do, in the words of chats; its streams, like
    other servers' answers, count in OpenAI's."""

    sglang: bool = False
    path: str = "/v1/responses"

    def assembled(self, events: Iterable[bytes], body: Mapping[str, Any]) -> bytes | None:
        try:
            found, _ = sse.objects(events)
        except sse.BrokenStream:
            return None
        last = found[-1] if found else {}
        response = last.get("response")
        if last.get("type") not in tuple(_ENDINGS) or not isinstance(response, dict):
            return None
        try:
            return None if _cut_off(response) else orjson.dumps(self._whole(response, body))
        except answers.MALFORMED:
            return None

    def _whole(self, response: Body, body: Mapping[str, Any]) -> Body:
        """Return the final object; upstream's streams leave the request's tools out."""
        if response.get("tools") == [] and isinstance(body.get("tools"), list):
            response["tools"] = body["tools"]
        created = response.get("created_at")
        if isinstance(created, float) and created.is_integer():
            response["created_at"] = int(created)
        if self.sglang:
            response["usage"] = _chat_usage(response.get("usage"))
        return response

    def complete(self, answer: bytes) -> bool:
        value = answers.loaded_object(answer)
        return (
            value.get("error") is None
            and _ended(value)
            and isinstance(value.get("output"), list)
            and all(isinstance(item, dict) for item in value["output"])
            and answers.can_be_read(self.replayed(answer, {}, answers.uncut))
        )

    def replayed(self, answer: bytes, body: Mapping[str, Any], split: Split) -> Iterator[bytes]:
        value = answers.loaded_object(answer)
        if "usage" in value:
            value["usage"] = _usage(value["usage"])
        begun = value | {"output": [], "status": "in_progress", "usage": None}
        begun |= dict.fromkeys(name for name in ("text", "incomplete_details") if name in begun)
        for number, event in enumerate(_events(value, begun, split)):
            yield sse.written(event | {"sequence_number": number}, event["type"])


def _events(value: Body, begun: Body, split: Split) -> Iterator[Body]:
    yield {"type": "response.created", "response": begun}
    yield {"type": "response.in_progress", "response": begun}
    yield from events_of_items(value["output"], split)
    kind = next(kind for kind, status in _ENDINGS.items() if status == value["status"])
    yield {"type": kind, "response": value}


def _ended(value: Body) -> bool:
    """Tell whether a response is all there is: completed, or as long as it was to be."""
    if value.get("status") == "completed":
        return True
    details = value.get("incomplete_details")
    reason = details.get("reason") if isinstance(details, dict) else None
    return value.get("status") == "incomplete" and reason == "max_output_tokens"


def _cut_off(response: Body) -> bool:
    """Tell whether a stream ended in the middle of a call; whole answers then have none."""
    calls = (item for item in response["output"] if item.get("type") == "function_call")
    return any(answers.loaded(call["arguments"].encode() or b"{}") is None for call in calls)


def _chat_usage(usage: Any) -> Any:
    """Return usage as upstream's whole answers tell it."""
    if not isinstance(usage, dict) or "input_tokens" not in usage:
        return usage
    cached = (usage.get("input_tokens_details") or {}).get("cached_tokens")
    reasoning = (usage.get("output_tokens_details") or {}).get("reasoning_tokens")
    return {
        "prompt_tokens": usage["input_tokens"],
        "total_tokens": usage.get("total_tokens", 0),
        "completion_tokens": usage.get("output_tokens", 0),
        "prompt_tokens_details": {"cached_tokens": cached} if cached else None,
        "reasoning_tokens": reasoning or 0,
    }


def _usage(usage: Any) -> Any:
    """Return usage as streams tell it."""
    if not isinstance(usage, dict) or "input_tokens" in usage or "prompt_tokens" not in usage:
        return usage
    details = usage.get("prompt_tokens_details") or {}
    return {
        "input_tokens": usage["prompt_tokens"],
        "input_tokens_details": {"cached_tokens": details.get("cached_tokens", 0)},
        "output_tokens": usage.get("completion_tokens", 0),
        "output_tokens_details": {"reasoning_tokens": usage.get("reasoning_tokens") or 0},
        "total_tokens": usage.get("total_tokens", 0),
    }
