"""Grammars that hurt whoever compiles them, by what is said of each; and honest ones."""

from __future__ import annotations

import json
from typing import Any


def _text(schema: Any) -> str:
    return json.dumps(schema)


def _chain(length: int) -> str:
    rules = [f"r{number} ::= r{number + 1} r{number + 1}" for number in range(length)]
    return "\n".join(["root ::= r0", *rules, f'r{length} ::= "x" | ""'])


INTEGERS = [
    {"type": "integer", "minimum": number * 7919, "maximum": 10**17 + number * 104_729}
    for number in range(900)
]

# By name: the field, the grammar, and a part of the refusal.
HOSTILE: dict[str, tuple[str, str, str]] = {
    "endless step": ("regex", "(([a-z]*)*([0-9]*)*)*" * 200, "ms for one token"),
    "ambiguous": (
        "ebnf",
        "root ::= " + " | ".join("root " * number for number in range(2, 40)) + ' | "a"',
        "ms for one token",
    ),
    "integers": ("json_schema", _text({"anyOf": INTEGERS}), "MB to compile"),
    "deep": (
        "json_schema",
        '{"type":"object","properties":{"a":' * 1200 + "{}" + '},"required":["a"]}' * 1200,
        "MB to compile",
    ),
    "brackets": ("json_schema", "[" * 32_000 + "]" * 32_000, "ends the process"),
    "endless reference": ("json_schema", '{"$ref": "#"}', "allows no token"),
    "endless rule": ("ebnf", "root ::= root", "allows no token"),
    "ends nowhere": ("ebnf", 'root ::= "a" x\nx ::= x', "allows no token"),
    "no JSON": ("json_schema", "{", "cannot be"),
    "no schema": ("json_schema", '{"type": 5}', "cannot be compiled"),
    "no root": ("ebnf", 'x ::= "a"', "cannot be compiled"),
    "unfinished": ("ebnf", 'root ::= "', "cannot be compiled"),
    "unbalanced": ("regex", "(", "cannot be compiled"),
    "nested": ("regex", "(" * 30_000 + ")" * 30_000, "cannot be compiled"),
    "a large number": ("json_schema", _text({"maximum": 10**300, "type": "integer"}), "cannot be"),
    "empty tag": ("structural_tag", "{}", "cannot be read as a grammar"),
    "no tag": ("structural_tag", "[", "cannot be"),
    "empty trigger": (
        "structural_tag",
        _text(
            {
                "type": "structural_tag",
                "format": {
                    "type": "triggered_tags",
                    "triggers": [""],
                    "tags": [
                        {"type": "tag", "begin": "", "content": {"type": "any_text"}, "end": ""}
                    ],
                },
            }
        ),
        "cannot be",
    ),
}
SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 5}, "age": {"enum": [1, 22, 333]}},
    "required": ["name", "age"],
    "additionalProperties": False,
}
HONEST: dict[str, tuple[str, str]] = {
    "schema": ("json_schema", _text(SCHEMA)),
    "recursive": (
        "json_schema",
        _text({"type": "object", "additionalProperties": {"$ref": "#"}, "maxProperties": 2}),
    ),
    "any JSON": ("json_schema", "$$ANY$$"),
    "regex": ("regex", r"\d{3}-\d{4}(foo|bar)+"),
    "repeated": ("regex", "(a{1000}){1000}"),
    "ebnf": ("ebnf", 'root ::= term ("+" term)*\nterm ::= [0-9]+ | "(" root ")"'),
    "left recursion": ("ebnf", 'root ::= root "a" | "b"'),
    "exponential": ("ebnf", _chain(30).replace(' | ""', "")),
    "nothing": ("regex", ""),
    "tag": (
        "structural_tag",
        _text(
            {
                "type": "structural_tag",
                "format": {
                    "type": "tag",
                    "begin": "<",
                    "content": {"type": "any_text"},
                    "end": ">",
                },
            }
        ),
    ),
    "legacy tag": (
        "structural_tag",
        _text(
            {
                "type": "structural_tag",
                "structures": [{"begin": "<a>", "schema": SCHEMA, "end": "</a>"}],
                "triggers": ["<"],
            }
        ),
    ),
}
