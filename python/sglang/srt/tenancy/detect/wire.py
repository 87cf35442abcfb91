"""What the server and its detector process say to each other: msgpack."""

from __future__ import annotations

import msgspec

Tokens = bytes  # of an array of typecode "q"


class Setup(msgspec.Struct, tag=True, array_like=True):
    """The first message: how to scan. ``model``: folder of a token classifier, or None."""

    vocabulary: list[bytes]
    model: str | None
    excerpts: bool


class Batch(msgspec.Struct, tag=True, array_like=True):
    """Prompts to be scanned."""

    prompts: list[Tokens]


class Ready(msgspec.Struct, tag=True, array_like=True):
    """The process has loaded what it needs."""


class Hint(msgspec.Struct, frozen=True, array_like=True):
    """See ``scan.Hint``."""

    start: int
    excerpt: str


class Result(msgspec.Struct, frozen=True, array_like=True):
    """See ``scan.PromptScan``."""

    harmless: int
    sensitive: int | None
    hints: list[Hint]
    possible: int
    kinds: list[str]
    read: int
    known: bool


class Results(msgspec.Struct, tag=True, array_like=True):
    """Of a batch, in its order."""

    results: list[Result]


_encoder = msgspec.msgpack.Encoder()
_questions = msgspec.msgpack.Decoder(Setup | Batch)
_answers = msgspec.msgpack.Decoder(Ready | Results)


def encode(message: Setup | Batch | Ready | Results) -> bytes:
    return _encoder.encode(message)


def answer(body: bytes) -> Ready | Results:
    """Decode what the process says. Raises msgspec.DecodeError."""
    return _answers.decode(body)


def question(body: bytes) -> Setup | Batch:
    """Decode what the server says. Raises msgspec.DecodeError."""
    return _questions.decode(body)
