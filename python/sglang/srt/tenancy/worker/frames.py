"""How the server and a worker process put a message on a pipe: its length, then its bytes."""

from __future__ import annotations

from typing import BinaryIO

LENGTH = 4  # bytes, big-endian


def frame(body: bytes) -> bytes:
    return len(body).to_bytes(LENGTH, "big") + body


def read_frame(stream: BinaryIO) -> bytes | None:
    """Read the next message; None where the other side is gone."""
    head = stream.read(LENGTH)
    if len(head) < LENGTH:
        return None
    return stream.read(int.from_bytes(head, "big"))
