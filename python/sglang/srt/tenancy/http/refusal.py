"""Answer a request that is refused, on whichever connection it came."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from sglang.srt.tenancy.errors import RequestError, error_response

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

_POLICY_VIOLATION = 1008  # RFC 6455, 7.4.1
_LONGEST_REASON = 120  # bytes of a websocket's close frame

# Refusals of this process, for operators: by status, and those of limits by the limit's name.
statuses: Counter[int] = Counter()
limits: Counter[str] = Counter()


async def refuse(
    error: RequestError, scope: Scope, receive: Receive, send: Send, *, unread: bool = False
) -> None:
    """Send the refusal: an error's response, or the end of a websocket.

    ``unread``: there may be a body that nobody reads; the connection ends, or all of it would come.
    """
    statuses[error.status_code] += 1
    if error.status_code == 429:
        limits[error.param] += 1
    if scope["type"] == "websocket":
        reason = str(error)[:_LONGEST_REASON]
        await send({"type": "websocket.close", "code": _POLICY_VIOLATION, "reason": reason})
        return
    headers = {**error.headers, **({"Connection": "close"} if unread else {})}
    response = error_response(error.status_code, error.told, error.param, headers, scope["path"])
    await response(scope, receive, send)
