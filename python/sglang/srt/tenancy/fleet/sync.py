"""Tell each replica what the others made public, and what any of them took back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from .orders import Order, learn_hashes, list_hashes
from .replicas import Answer, Replicas

_MOST = 2048  # of a kind, that a replica takes at a time


async def sync(replicas: Replicas) -> tuple[Order, list[Answer]]:
    """Ask all, then tell all. Returns what was told last, and what came of it: of a replica that
    told nothing, or of which no other was reached, that."""
    told = await replicas.send(list_hashes())
    speakers = [answer for answer in told if answer.done]
    if len(speakers) > 1:
        orders = {one.url: learn_hashes(_of_others(one, speakers)) for one in speakers}
        learnt = {answer.url: answer for answer in await replicas.send_each(orders)}
    else:
        fault = "not told: no other replica was reached"
        learnt = {one.url: replace(one, done=False, fault=fault) for one in speakers}
    return learn_hashes({}), [learnt.get(answer.url, answer) for answer in told]


def _of_others(one: Answer, speakers: Sequence[Answer]) -> dict[str, Any]:
    """Merge what the others said. Under another key it would be refused, so its check is sent."""
    others = [answer.content for answer in speakers if answer.url != one.url]
    checks = [other["key_check"] for other in others]
    strange = next((check for check in checks if check != one.content["key_check"]), None)
    return {
        "key_check": strange or one.content["key_check"],
        "public": _merged([other["public"] for other in others]),
        "demoted": _merged([other["demoted"] for other in others]),
    }


def _merged(lists: Sequence[list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Return each once, in turn from each replica, so that none crowds the others out."""
    merged: dict[tuple[int, str], dict[str, Any]] = {}
    for at in range(max(map(len, lists))):
        for entries in lists:
            if at < len(entries):
                entry = entries[at]
                merged.setdefault((entry["tokens"], entry["hash"]), entry)
    return list(merged.values())[:_MOST]
