"""Read a message as the scheduler will, before it is sent: what it cannot read would end it."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from sglang.srt.managers.io_struct import (
    BatchTokenizedEmbeddingReqInput,
    BatchTokenizedGenerateReqInput,
    TokenizedEmbeddingReqInput,
    TokenizedGenerateReqInput,
    msgpack_decode,
    msgpack_encode,
)
from sglang.srt.tenancy.errors import RequestError, bad_field

_REQUESTS = (TokenizedGenerateReqInput, TokenizedEmbeddingReqInput)
_BATCHES = (BatchTokenizedGenerateReqInput, BatchTokenizedEmbeddingReqInput)
# What the server adds itself, in whatever form it travels.
_OPAQUE = ("mm_inputs", "mm_data_mooncake", "time_stats")
_INDEX = re.compile(r"\$\[(\d+)\]")


def check_message(message: Any) -> None:
    """Check each request of a message to the scheduler. Raises RequestError 400 naming a field.

    Types are checked that upstream takes for granted, numbers beyond 64 bits, strings that are no
    text (lone surrogates), whether upstream sends pickled objects or msgpack.
    """
    if isinstance(message, _BATCHES):
        for one in message.batch:
            _check(one)
    elif isinstance(message, _REQUESTS):
        _check(message)


def _check(request: Any) -> None:
    known = [name for name in _OPAQUE if name in request.__struct_fields__]
    bare = msgspec.structs.replace(request, **dict.fromkeys(known))
    try:
        msgpack_decode(msgpack_encode(bare))
    except (msgspec.MsgspecError, OverflowError, UnicodeError, TypeError, RecursionError) as error:
        raise _at_fault(bare, error) from None


def _at_fault(request: Any, error: Exception) -> RequestError:
    """Name the field. A message is an array: its class's name, then the fields in order."""
    place = _INDEX.search(str(error))
    index = int(place[1]) - 1 if place else -1
    field = request.__struct_fields__[index] if index >= 0 else "request"
    return bad_field(field, f"holds what the engine cannot read ({type(error).__name__})")
