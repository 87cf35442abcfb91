"""Prompts in the demo model's chat format, as token numbers, of texts in which nothing is found.

The model's tokenizer makes a token of each byte, so a text's length in tokens can be chosen.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from demo_model import ASSISTANT, END, SYSTEM, USER, token_id
from labelled_texts.harmless import EN_FILL, ORDINARY

_SYSTEM, _USER, _ASSISTANT, _END = map(token_id, (SYSTEM, USER, ASSISTANT, END))


class Texts:
    """A fixed seed gives the same texts to every engine."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def text(self, letters: int, opening: str = "") -> str:
        """Sentences behind ``opening``, which tells texts apart from their beginning on."""
        written = opening
        while len(written) < letters:
            written += f" {self._random.choice(ORDINARY + EN_FILL)}"
        return written[:letters]


def system(text: str) -> list[int]:
    """A system message, with which a prompt begins."""
    return [_SYSTEM, *text.encode(), _END]


def asked(text: str) -> list[int]:
    """A user's message, and the marker behind which the model answers."""
    return [_USER, *text.encode(), _END, _ASSISTANT]


def answered(reply: Sequence[int]) -> list[int]:
    """An answer as later prompts have it."""
    return [*reply, _END]
