"""The events of a response's items: each is added, grows, and is done."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from sglang.srt.tenancy.response_cache.endpoints.endpoint import Body, Split

# Of a content part's type: what its events are called, and its text.
_PARTS = {"output_text": ("output_text", "text"), "refusal": ("refusal", "refusal")}


def events_of_items(items: Sequence[Body], split: Split) -> Iterator[Body]:
    """Stream items in their order. Calls in a row are open together, as upstream's."""
    calls: list[tuple[Body, Body]] = []
    for number, item in enumerate(items):
        at = {"output_index": number, "item_id": item.get("id")}
        if item.get("type") == "function_call":
            calls.append((item, at))
            yield from _begun(item, at, {"arguments": ""})
            yield from _grown("function_call_arguments", at, item.get("arguments"), split)
            continue
        yield from _calls_done(calls)
        calls = []
        if item.get("type") == "message":
            yield from _message(item, at, split)
        elif item.get("type") == "reasoning":
            yield from _reasoning(item, at, split)
        else:
            yield from _begun(item, at, {})
        yield _done(item, at)
    yield from _calls_done(calls)


def _calls_done(calls: Sequence[tuple[Body, Body]]) -> Iterator[Body]:
    for item, at in calls:
        said = {"arguments": item.get("arguments", ""), "name": item.get("name")}
        yield {"type": "response.function_call_arguments.done", **at, **said}
        yield _done(item, at)


def _message(item: Body, at: Body, split: Split) -> Iterator[Body]:
    yield from _begun(item, at, {"content": []})
    for number, part in enumerate(item.get("content") or ()):
        inside = at | {"content_index": number}
        name, field = _PARTS.get(part.get("type"), ("", ""))
        begun = part | ({field: ""} if field else {})
        begun |= {"annotations": []} if "annotations" in part else {}
        yield {"type": "response.content_part.added", **inside, "part": begun}
        if name:
            said: Body = {"logprobs": []} if name == "output_text" else {}
            yield from _grown(name, inside, part.get(field), split, said)
            done = {field: part.get(field), **said}
            yield {"type": f"response.{name}.done", **inside, **done}
        yield {"type": "response.content_part.done", **inside, "part": part}


def _reasoning(item: Body, at: Body, split: Split) -> Iterator[Body]:
    yield from _begun(item, at, {"content": [], "summary": []})
    summary = item.get("summary") or ()
    for number, part in enumerate(summary):
        inside = at | {"summary_index": number}
        added = part | {"text": ""}
        text = part.get("text")
        yield {"type": "response.reasoning_summary_part.added", **inside, "part": added}
        yield from _grown("reasoning_summary_text", inside, text, split)
        yield {"type": "response.reasoning_summary_text.done", **inside, "text": text}
        yield {"type": "response.reasoning_summary_part.done", **inside, "part": part}
    # Whoever asked for a summary is told nothing else, as upstream does.
    for number, part in enumerate(() if summary else item.get("content") or ()):
        inside = at | {"content_index": number}
        yield from _grown("reasoning_text", inside, part.get("text"), split)
        yield {"type": "response.reasoning_text.done", **inside, "text": part.get("text")}


def _begun(item: Body, at: Body, empty: Body) -> Iterator[Body]:
    added = {name: value for name, value in item.items() if name != "encrypted_content"}
    added |= empty | {"status": "in_progress"}
    number = at["output_index"]
    yield {"type": "response.output_item.added", "output_index": number, "item": added}


def _done(item: Body, at: Body) -> Body:
    return {
        "type": "response.output_item.done",
        "output_index": at["output_index"],
        # Whole answers of upstream's leave a thought's status open.
        "item": item | {"status": item.get("status") or "completed"},
    }


def _grown(
    name: str, at: Body, text: Any, split: Split, said: Body | None = None
) -> Iterator[Body]:
    for piece in split(text) if isinstance(text, str) and text else ():
        yield {"type": f"response.{name}.delta", **at, "delta": piece, **(said or {})}
