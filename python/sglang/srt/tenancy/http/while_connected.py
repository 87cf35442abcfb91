"""Wait for something as long as the client that asked for it is there."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

_LOOK_FOR_CLIENT = 0.25  # seconds between two looks


async def while_connected(
    coroutine: Coroutine[Any, Any, T],
    request: Any,
    give_back: Callable[[asyncio.Future[T]], None] | None = None,
) -> T:
    """Wait as long as the client does. Raises ValueError where it is gone.

    ``give_back``: called then, for what has come meanwhile.
    """
    waiting = asyncio.ensure_future(coroutine)
    try:
        while not (await asyncio.wait([waiting], timeout=_LOOK_FOR_CLIENT))[0]:
            if request is not None and await request.is_disconnected():
                raise ValueError("The client is gone")
    except BaseException:
        waiting.cancel()
        if give_back is not None:
            waiting.add_done_callback(give_back)
        raise
    return waiting.result()
