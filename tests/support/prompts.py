"""Prompts and users that no other test, and no earlier run, has used."""

from __future__ import annotations

import itertools
import random
import secrets
import string

_random = random.SystemRandom()
# In turn: of as many in a row no two are alike.
_beginnings = itertools.cycle(_random.sample(string.ascii_letters, len(string.ascii_letters)))


def fresh_prompt(tokens: int = 150) -> str:
    """Words of small letters; the demo model's tokenizer makes one token of each letter.

    Of 52 in a row, in one process, no two begin with the same letter. The first may be a capital.
    """
    letters = _random.choices(string.ascii_lowercase + " ", k=tokens - 1)
    return "".join([next(_beginnings), *letters])


def fresh_user(name: str = "user") -> str:
    """A user id with every kind of character that one may have."""
    return f"{name}.{secrets.token_hex(6)}_X:y@z/1-2"
