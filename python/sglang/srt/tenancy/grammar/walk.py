"""Walk some steps through a grammar, as an answer would, and look for one that is slow."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from sglang.srt.tenancy.grammar import wire

_STEPS = 256  # tokens of each walk
_MEASURED = 3  # times, before a step is called slow: once may be the machine's fault
_BITS = 32


def walk(matcher: Any, vocabulary_size: int, step_seconds: float) -> wire.Verdict:
    """Walk at random, and then with the same token as long as it is allowed.

    ``matcher``: a native one, at its start. Slow is what takes more CPU than ``step_seconds``.
    """
    words = -(-vocabulary_size // _BITS)
    mask = np.full((1, words), -1, dtype=np.int32)
    for repeats in (False, True):
        matcher.reset()
        fault = _walk_once(matcher, mask, vocabulary_size, step_seconds, repeats)
        if fault is not None:
            return fault
    return wire.Verdict()


def _walk_once(
    matcher: Any, mask: Any, vocabulary_size: int, step_seconds: float, repeats: bool
) -> wire.Verdict | None:
    chance = random.Random(0)  # the same grammar, the same verdict
    last = -1
    for step in range(_STEPS):
        if _is_slow(lambda: matcher.fill_next_token_bitmask(mask, 0, False), step_seconds):
            return wire.Verdict("slow step", f"after {step} tokens")
        token = last if repeats and _allows(mask, last) else _draw(mask, vocabulary_size, chance)
        if token is None:
            return wire.Verdict("empty", f"after {step} tokens" if step else "at its start")

        def accept(token: int = token) -> None:
            if not matcher.accept_token(token, False):
                raise ValueError("a token is allowed and not accepted")

        if _is_slow(accept, step_seconds, lambda: matcher.rollback(1)):
            return wire.Verdict("slow step", f"after {step} tokens")
        if matcher.is_terminated():
            return None
        last = token
    return None


def _is_slow(act: Callable[[], Any], seconds: float, undo: Callable[[], Any] | None = None) -> bool:
    for attempt in range(_MEASURED):
        if attempt and undo is not None:
            undo()
        began = time.thread_time()
        act()
        if time.thread_time() - began <= seconds:
            return False
    return True


def _allows(mask: Any, token: int) -> bool:
    return token >= 0 and bool(int(mask[0, token // _BITS]) >> (token % _BITS) & 1)


def _draw(mask: Any, vocabulary_size: int, chance: random.Random) -> int | None:
    """Draw an allowed token; None where there is none."""
    words = np.flatnonzero(mask[0])
    while len(words):
        place = chance.randrange(len(words))
        word = int(words[place])
        bits = int(mask[0, word])
        held = [word * _BITS + bit for bit in range(_BITS) if bits >> bit & 1]
        held = [token for token in held if token < vocabulary_size]
        if held:
            return chance.choice(held)
        words = np.delete(words, place)  # padding behind the vocabulary
    return None
