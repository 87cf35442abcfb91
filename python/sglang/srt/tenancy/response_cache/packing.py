"""Write an entry as bytes, for stores outside of this process's memory."""

from __future__ import annotations

import struct
import zlib
from itertools import accumulate, pairwise

from sglang.srt.tenancy.response_cache.entry import Entry

# Checksum of all that follows; bytes of all bodies; when, how long; how many bodies.
_HEAD = struct.Struct(">IQddI")
_LENGTH = struct.Struct(">I")
HEAD_SIZE = _HEAD.size


class PackingError(ValueError):
    """Bytes that are no entry, or not a whole one."""


def pack(entry: Entry) -> bytes:
    """Write an entry."""
    bodies = entry.bodies
    rest = b"".join((*(_LENGTH.pack(len(body)) for body in bodies), *bodies))
    head = _HEAD.pack(0, entry.size, entry.created, entry.seconds, len(bodies))[_LENGTH.size :]
    return _LENGTH.pack(zlib.crc32(rest, zlib.crc32(head))) + head + rest


def unpack(data: bytes) -> Entry:
    """Read what ``pack`` wrote. Raises PackingError."""
    if len(data) < HEAD_SIZE:
        raise PackingError(f"{len(data)} bytes, and an entry's head has {HEAD_SIZE}")
    checksum, _, created, seconds, count = _HEAD.unpack_from(data)
    if zlib.crc32(memoryview(data)[_LENGTH.size :]) != checksum:
        raise PackingError("it is not what its checksum was made of")
    start = HEAD_SIZE + count * _LENGTH.size
    lengths = (_LENGTH.unpack_from(data, at)[0] for at in range(HEAD_SIZE, start, _LENGTH.size))
    ends = list(accumulate(lengths, initial=start))
    bodies = tuple(data[begin:end] for begin, end in pairwise(ends))
    return Entry(created, seconds, bodies)


def size_of(head: bytes) -> int:
    """Read what ``Entry.size`` is from an entry's first HEAD_SIZE bytes."""
    return int(_HEAD.unpack(head)[1])
