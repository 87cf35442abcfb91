"""/v1/messages: Anthropic's, of typed blocks."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from sglang.srt.tenancy.response_cache.endpoints import answers, sse
from sglang.srt.tenancy.response_cache.endpoints.endpoint import Body, Split
from sglang.srt.tenancy.response_cache.endpoints.pieces import text_of
from sglang.srt.tenancy.response_cache.endpoints.single import SingleSample

# What a delta of each type adds, and to which field of its block.
_ADDED = {
    "text_delta": ("text", "text"),
    "thinking_delta": ("thinking", "thinking"),
    "signature_delta": ("signature", "signature"),
    "input_json_delta": ("partial_json", "input"),
}
_NO_TEXT = {"type": "text", "text": ""}


@dataclass(frozen=True, slots=True)
class Messages(SingleSample):
    path: str = "/v1/messages"

    def assembled(self, events: Iterable[bytes], body: Mapping[str, Any]) -> bytes | None:
        try:
            found, _ = sse.objects(events)
            answer = _put_together(found)
            return None if answer is None else orjson.dumps(answer)
        except answers.MALFORMED:
            # Not what this endpoint streams.
            return None

    def complete(self, answer: bytes) -> bool:
        value = answers.loaded_object(answer)
        return (
            value.get("type") == "message"
            and value.get("error") is None
            and isinstance(value.get("content"), list)
            and all(isinstance(block, dict) for block in value["content"])
            and value.get("stop_reason") is not None
            and answers.can_be_read(self.replayed(answer, {}, answers.uncut))
        )

    def replayed(self, answer: bytes, body: Mapping[str, Any], split: Split) -> Iterator[bytes]:
        value = answers.loaded_object(answer)
        at_the_end = {
            name: value[name] for name in ("stop_reason", "stop_sequence") if name in value
        }
        usage = value.get("usage") or {}
        begun = {name: each for name, each in value.items() if name not in at_the_end}
        begun |= {"content": [], "usage": {**usage, "output_tokens": 0}}
        yield _event({"type": "message_start", "message": begun})
        blocks = value["content"]
        # Upstream's streams have no block where there is no text.
        for index, block in enumerate(blocks if blocks != [_NO_TEXT] else ()):
            yield from _block(index, block, split)
        taken = {"output_tokens": usage.get("output_tokens", 0)}
        yield _event({"type": "message_delta", "delta": at_the_end, "usage": taken})
        yield _event({"type": "message_stop"})


def _event(value: Body) -> bytes:
    return sse.written(value, value["type"])


def _put_together(events: Sequence[Body]) -> Body | None:
    """Return the final object; None where the stream does not say that it is at its end."""
    if not events or events[-1]["type"] != "message_stop":
        return None
    message: Body = {}
    ending: Body = {}
    usage: Body = {}
    blocks: dict[int, Body] = {}
    for event in events:
        kind = event["type"]
        if kind == "message_start":
            message = event["message"]
            usage = dict(message.pop("usage", None) or {})
        elif kind == "content_block_start":
            blocks[event["index"]] = _begun(event["content_block"])
        elif kind == "content_block_delta":
            _add(blocks[event["index"]], event["delta"])
        elif kind == "content_block_stop":
            _close(blocks[event["index"]])
        elif kind == "message_delta":
            ending = event["delta"]
            usage |= {name: n for name, n in (event.get("usage") or {}).items() if n is not None}
    if not message or ending.get("stop_reason") is None:
        return None
    content = [blocks[index] for index in sorted(blocks)] or [dict(_NO_TEXT)]
    if ending["stop_reason"] == "max_tokens" and any("input" in block for block in content):
        # A whole answer leaves calls that are cut off in the text, or out.
        return None
    return message | {"content": content} | ending | {"usage": usage}


def _begun(block: Body) -> Body:
    # Until it is closed, a call's input is the JSON so far.
    return block | {"input": ""} if "input" in block else block


def _add(block: Body, delta: Body) -> None:
    name, field = _ADDED.get(delta["type"], (None, ""))
    if name is None:
        raise ValueError(f"a delta of type {delta['type']!r}")
    block[field] = text_of(block.get(field)) + text_of(delta[name])


def _close(block: Body) -> None:
    if isinstance(block.get("input"), str):
        try:
            block["input"] = orjson.loads(block["input"] or b"{}")
        except orjson.JSONDecodeError:
            # What upstream says of a call that cannot be read, where it answers whole.
            block["input"] = {}


def _block(index: int, block: Body, split: Split) -> Iterator[bytes]:
    begun, deltas = _cut(block, split)
    yield _event({"type": "content_block_start", "index": index, "content_block": begun})
    for delta in deltas:
        yield _event({"type": "content_block_delta", "index": index, "delta": delta})
    yield _event({"type": "content_block_stop", "index": index})


def _cut(block: Body, split: Split) -> tuple[Body, list[Body]]:
    """Return a block as it begins, and its deltas. Blocks of other types begin whole."""
    if block.get("type") == "text":
        return block | {"text": ""}, [
            {"type": "text_delta", "text": piece} for piece in _split(block.get("text"), split)
        ]
    if block.get("type") == "thinking":
        pieces = _split(block.get("thinking"), split)
        deltas = [{"type": "thinking_delta", "thinking": piece} for piece in pieces]
        begun = {name: value for name, value in block.items() if name != "signature"}
        if block.get("signature"):
            deltas.append({"type": "signature_delta", "signature": block["signature"]})
        return begun | {"thinking": ""}, deltas
    if "input" in block:
        # As models write it, with spaces.
        written = "" if block["input"] == {} else json.dumps(block["input"], ensure_ascii=False)
        pieces = _split(written, split)
        deltas = [{"type": "input_json_delta", "partial_json": piece} for piece in pieces]
        return block | {"input": {}}, deltas
    return block, []


def _split(text: Any, split: Split) -> Sequence[str]:
    return split(text) if isinstance(text, str) and text else ()
