"""What is done about a request that failed before anything was answered."""

from __future__ import annotations

import email.utils
import time
from collections.abc import Callable

import httpx
import openai

from .endpoint import Retries

_TOO_MANY = 429
_NOT_NOW = 503


def is_unreachable(error: BaseException) -> bool:
    """Tell whether nothing was answered; not where a server is slow: it may be at work."""
    slow = isinstance(error.__cause__, (httpx.ReadTimeout, httpx.WriteTimeout))
    return isinstance(error, openai.APIConnectionError) and not slow


def goes_to_fallback(error: BaseException) -> bool:
    """Tell whether another endpoint may be asked. Not for 429: a limit is the user's, not the
    server's."""
    return is_unreachable(error) or _status(error) == _NOT_NOW


def may_pass(error: BaseException) -> bool:
    """Tell whether the same request may do better later."""
    return goes_to_fallback(error) or _status(error) == _TOO_MANY


def retry_after(error: BaseException) -> float | None:
    """Return for how many seconds the server asks to wait, by ``Retry-After``."""
    if not isinstance(error, openai.APIStatusError):
        return None
    return seconds_of(error.response.headers.get("retry-after"), time.time())


def seconds_of(header: str | None, now: float) -> float | None:
    """Read a ``Retry-After``: seconds, or a date. None where it is neither."""
    if header is None:
        return None
    try:
        seconds = float(header)
    except ValueError:
        try:
            seconds = email.utils.parsedate_to_datetime(header).timestamp() - now
        except ValueError:
            return None
    return max(0.0, seconds) if seconds < float("inf") else None


def backoff(retries: Retries) -> Callable[[Exception], bool | float]:
    """Return what stamina asks: whether to send again, or after how many seconds."""

    def wait(error: Exception) -> bool | float:
        if not may_pass(error):
            return False
        asked = retry_after(error)
        if asked is None:
            return True
        return asked if asked <= retries.longest_wait else False

    return wait


def _status(error: BaseException) -> int | None:
    return error.status_code if isinstance(error, openai.APIStatusError) else None
