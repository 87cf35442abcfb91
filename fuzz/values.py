"""Draw values that a field of a request may be given by somebody who means no good."""

from __future__ import annotations

import random
from typing import Any

# Of the server that is attacked: a prompt may be longer than what the device holds.
CONTEXT, POOL, PAGE, VOCABULARY = 8192, 4096, 16, 262
# The id of a request of the user who is to be left alone.
HER_ID = "alices"

# What prompts hold, and no log of the server may.
SECRET = "vzqxw"
PROMPT = f"Hello {SECRET}"

HUGE = (10**9, 2**31, 2**40, 2**63, 2**70, 10**400)
NUMBERS: tuple[Any, ...] = (
    *(0, 1, -1, -5, 2, 1.5, 8.0, -0.0, 1e-300, 1e308, 1e-320),
    *HUGE,
    *(-number for number in HUGE),
    *(float("inf"), float("-inf"), float("nan")),
)
# Whole numbers of the right kind, at the borders of what a request may ask for.
BORDERS = (
    *(-2, -1, 0, 1, 1, 2, 3, 4, 8, 129),
    *(VOCABULARY - 1, VOCABULARY, POOL - 1, POOL, POOL + 1, CONTEXT - 1, CONTEXT, CONTEXT + 1),
    *(2**31 - 1, 2**53, 2**63 - 1),
)
FRACTIONS = (-2.0, -1.0, -1e-9, 0.0, 1e-9, 0.5, 1.0, 1.0 + 1e-9, 2.0, 2.1, 100.0, 1e300)
STRINGS = (
    *("", " ", "x", "8", "null", "true", "\x00", "\ud800", "￾", "é" * 10, "../../etc/passwd"),
    *(
        "file:///etc/passwd",
        "http://127.0.0.1:1/x",
        "data:image/png;base64,AAAA",
        "%s%n",
        "{{7*7}}",
    ),
    *("a" * 5000, "resp_", "HEALTH_CHECK_", "($", "(a{1000}){1000}", '{"$ref": "#"}'),
)
# Words that fields of a type "string" know, and ids that are somebody's.
NAMES = (
    *("x", "Hello", "", "demo", "user", "system", "assistant", "tool", "developer", "text"),
    *("json_object", "json_schema", "function", "required", "auto", "none", "low", "image_url"),
    *(HER_ID, HER_ID[:1], HER_ID[:-1], "mine", "mine_0", "m", "1", "-1", "261", "262", "qwen3"),
    *('{"type": "object"}', "[a-z]+", 'root ::= "a"', '{"a": 1}', "é\u0301\U0001f600"),
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGA",
)
MOST_NESTED = 3


def draw(random: random.Random, depth: int = 0) -> Any:
    """Draw a value of any type that JSON has; lists and objects hold more of them."""
    kind = random.randrange(8 if depth < MOST_NESTED else 5)
    if kind < 2:
        return random.choice(NUMBERS)
    if kind < 4:
        return random.choice(STRINGS)
    if kind == 4:
        return random.choice((None, True, False))
    inner = [draw(random, depth + 1) for _ in range(random.choice((0, 1, 1, 2, 3)))]
    if kind < 7:
        return inner * (500 if inner and random.random() < 0.02 else 1)
    names = ("type", "text", "url", "id", "role", "content", "1", "-1", "x", "\ud800", "name")
    return {random.choice(names): value for value in inner}
