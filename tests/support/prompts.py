"""Prompts and users that no other test, and no earlier run, has used."""

from __future__ import annotations

import random
import secrets
import string

_random = random.SystemRandom()


def fresh_prompt(tokens: int = 150) -> str:
    """Words of small letters; the demo model's tokenizer makes one token of each letter."""
    letters = _random.choices(string.ascii_lowercase + " ", k=tokens)
    return "".join(letters)


def fresh_user(name: str = "user") -> str:
    """A user id with every kind of character that one may have."""
    return f"{name}.{secrets.token_hex(6)}_X:y@z/1-2"
