"""Prompts as token numbers, of which no two begin alike unless they are meant to."""

from __future__ import annotations

import random
import string
from itertools import islice

from stdnum import luhn

from serving.server import VOCABULARY

# Below it are the demo tokenizer's bytes and chat markers.
FIRST_TOKEN = 512


class Prompts:
    """A fixed seed gives the same prompts in every mode."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self._openings = list(range(FIRST_TOKEN, VOCABULARY))
        self.random.shuffle(self._openings)

    def fresh(self, tokens: int) -> list[int]:
        """A prompt whose first token no other has had.

        Otherwise a prefix of one token would be met by chance, and held by so many users that
        it becomes public. Raises RuntimeError where all openings are used.
        """
        if not self._openings:
            raise RuntimeError(f"all {VOCABULARY - FIRST_TOKEN} first tokens are used")
        return [self._openings.pop(), *self.tail(tokens - 1)]

    def tail(self, tokens: int) -> list[int]:
        return [self.random.randrange(FIRST_TOKEN, VOCABULARY) for _ in range(tokens)]

    def text(self, letters: int) -> str:
        """Small letters in words of five; the demo tokenizer makes a token of each character."""
        words = ("".join(self.random.choices(string.ascii_lowercase, k=5)) for _ in range(letters))
        return " ".join(islice(words, letters // 6 + 1))[:letters]

    def card(self) -> str:
        """The number of a credit card that passes every check."""
        digits = f"4{self.random.randrange(10**14):014}"
        return digits + str(luhn.calc_check_digit(digits))
