"""Keep what errors say of users' requests out of the log: Python and pydantic quote what they read.

Upstream logs errors with their messages. While a user's request is handled, type and place remain.
"""

from __future__ import annotations

import logging
import sys
import traceback
from collections.abc import Iterator
from typing import Any

from sglang.srt.tenancy.http.held_response import current_response

_ACCESS = "uvicorn.access"  # what its formatter shows are the arguments
_SHORTEST = 4  # characters; shorter ones hold nothing, and are found in any message


def hide_messages() -> None:
    """Have the logs of this process show errors of users' requests without messages from now on."""
    make = logging.getLogRecordFactory()
    if isinstance(make, _WithoutMessages):
        return
    logging.setLogRecordFactory(_WithoutMessages(make))


class _WithoutMessages:
    """Makes log records; of an error that is handled, or logged, with its type alone."""

    def __init__(self, make: Any):
        self._make = make

    def __call__(self, *args: Any, **kwargs: Any) -> logging.LogRecord:
        record: logging.LogRecord = self._make(*args, **kwargs)
        if current_response() is None:
            return record
        error = (record.exc_info or sys.exc_info())[1]
        if error is None:
            return record
        _hide(record, error)
        return record


def _hide(record: logging.LogRecord, error: BaseException) -> None:
    if record.name == _ACCESS:
        return
    said = shown = record.getMessage()
    for one in _chain(error):
        message = str(one)
        if len(message) >= _SHORTEST:
            shown = shown.replace(message, type(one).__name__)
    if shown != said:
        record.msg, record.args = shown, None
    if record.exc_info:  # a formatter takes what is there
        record.exc_text = "\n".join(map(_trace, reversed(list(_chain(error)))))


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """List an error and what it was raised from, or beside."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def _trace(error: BaseException) -> str:
    frames = "".join(traceback.format_tb(error.__traceback__))
    return f"Traceback (most recent call last):\n{frames}{type(error).__name__}"
