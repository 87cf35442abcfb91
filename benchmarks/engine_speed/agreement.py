"""Whether engines say the same: greedy answers, token by token, against the reference's."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from engine_speed.load import Load
from engine_speed.rounds import Played

TOLD = 3  # differences of an engine and workload, looked into

Margin = Callable[[Sequence[int]], Awaitable[float]]


@dataclass(frozen=True)
class Difference:
    """``request``: its number. ``token``: the first of the answer that differs."""

    request: int
    token: int


def differences(load: Load, played: Sequence[Played]) -> list[Difference]:
    """Of all rounds, each place once."""
    found = {
        Difference(number, at)
        for each in played
        for number, (reply, expected) in enumerate(zip(each.replies, load.answers, strict=True))
        if (at := _first_difference(reply.output, expected)) is not None
    }
    return sorted(found, key=lambda one: (one.request, one.token))


def _first_difference(given: Sequence[int], expected: Sequence[int]) -> int | None:
    """Raises ValueError where one answer has fewer tokens than were asked for."""
    for at, (one, other) in enumerate(zip(given, expected, strict=True)):
        if one != other:
            return at
    return None


async def agreement(
    load: Load, played: Sequence[Played], margin: Margin | None = None
) -> dict[str, Any]:
    """``margins``: at some differences, how far apart the reference's two best logits are."""
    found = differences(load, played)
    answers = sum(len(each.replies) for each in played)
    equal = sum(
        _first_difference(reply.output, expected) is None
        for each in played
        for reply, expected in zip(each.replies, load.answers, strict=True)
    )
    read = [
        [*load.requests[d.request].prompt, *load.answers[d.request][: d.token]]
        for d in found[:TOLD]
    ]
    return {
        "answers": answers,
        "equal": equal,
        "differences": [vars(difference) for difference in found],
        "margins": [await margin(tokens) for tokens in read] if margin else [],
    }
