"""What the server and its detector process say to each other: msgpack, with a length before."""

from __future__ import annotations

from typing import BinaryIO

import msgspec

LENGTH = 4  # bytes, big-endian

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


def frame(message: Setup | Batch | Ready | Results) -> bytes:
    body = _encoder.encode(message)
    return len(body).to_bytes(LENGTH, "big") + body


def answer(body: bytes) -> Ready | Results:
    """Decode what the process says. Raises msgspec.DecodeError."""
    return _answers.decode(body)


def read_question(stream: BinaryIO) -> Setup | Batch | None:
    """Read the next message; None where the other side is gone."""
    head = stream.read(LENGTH)
    if len(head) < LENGTH:
        return None
    return _questions.decode(stream.read(int.from_bytes(head, "big")))
