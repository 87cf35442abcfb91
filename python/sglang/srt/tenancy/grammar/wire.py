"""What the server and its trial process say to each other: msgpack."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

Fault = Literal["invalid", "slow", "slow step", "memory", "crash", "empty"]


class Setup(msgspec.Struct, tag=True, array_like=True):
    """The first message: the vocabulary as the scheduler's compiler has it, and the bounds.

    ``seconds``: of CPU, for one grammar; ``step_seconds``: for one token; ``memory``: bytes.
    ``last_seconds``: on the clock, for one that waits for something that does not come.
    """

    vocabulary: list[bytes]
    add_prefix_space: bool
    stop_tokens: list[int]
    override_stop_tokens: list[int] | None
    seconds: float
    step_seconds: float
    memory: int
    last_seconds: float


class Compile(msgspec.Struct, tag=True, array_like=True, frozen=True):
    """One call of the native compiler: a method's name, and its arguments."""

    method: str
    arguments: list[Any]


class Ready(msgspec.Struct, tag=True, array_like=True):
    """The process has loaded what it needs."""


class Verdict(msgspec.Struct, tag=True, array_like=True, frozen=True):
    """What became of a grammar. ``fault``: None for a good one; ``detail``: for its client."""

    fault: Fault | None = None
    detail: str = ""


_encoder = msgspec.msgpack.Encoder()
_questions = msgspec.msgpack.Decoder(Setup | Compile)
_answers = msgspec.msgpack.Decoder(Ready | Verdict)


def encode(message: Setup | Compile | Ready | Verdict) -> bytes:
    return _encoder.encode(message)


def answer(body: bytes) -> Ready | Verdict:
    """Decode what the process says. Raises msgspec.DecodeError."""
    return _answers.decode(body)


def question(body: bytes) -> Setup | Compile:
    """Decode what the server says. Raises msgspec.DecodeError."""
    return _questions.decode(body)
