"""Send to all replicas at the same time, and again to those that do not answer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import httpx

from .orders import Order

# A replica waits up to two minutes for its schedulers.
_ANSWER_SECONDS = 150.0
_CONNECT_SECONDS = 5.0
_PAUSE = 1.0  # seconds, before asking again

# It is starting, ending, or waited for its schedulers in vain: it may answer later.
_LATER = (502, 503, 504)


@dataclass(frozen=True)
class Answer:
    """What came of an order at one replica. ``content``: the JSON, of a refusal too; None where
    nothing was answered. ``fault``: why it is not done."""

    url: str
    done: bool
    status: int | None = None
    content: Any = None
    fault: str | None = None

    @property
    def may_come_later(self) -> bool:
        """Whether asking again may help."""
        return not self.done and (self.status is None or self.status in _LATER)


class Replicas:
    """``retry``: seconds during which those that are down are asked again."""

    def __init__(self, urls: Sequence[str], key: str, retry: float = 0.0):
        self._urls = urls
        self._headers = {"Authorization": f"Bearer {key}"}
        self._retry = retry

    async def send(self, order: Order) -> list[Answer]:
        """Have every replica carry out an order; what each answered."""
        return await self.send_each(dict.fromkeys(self._urls, order))

    async def send_each(self, orders: Mapping[str, Order]) -> list[Answer]:
        """Send each replica its own order, by URL."""
        deadline = time.monotonic() + self._retry
        timeout = httpx.Timeout(_ANSWER_SECONDS, connect=_CONNECT_SECONDS)
        async with httpx.AsyncClient(headers=self._headers, timeout=timeout) as http:
            return await asyncio.gather(
                *(self._until_answered(http, url, order, deadline) for url, order in orders.items())
            )

    async def _until_answered(
        self, http: httpx.AsyncClient, url: str, order: Order, deadline: float
    ) -> Answer:
        while True:
            answer = await _ask(http, url, order)
            if not answer.may_come_later or time.monotonic() + _PAUSE > deadline:
                return answer
            await asyncio.sleep(_PAUSE)


async def _ask(http: httpx.AsyncClient, url: str, order: Order) -> Answer:
    try:
        response = await http.request(order.method, url + order.path, json=order.body)
    except httpx.HTTPError as error:
        return Answer(url, done=False, fault=f"not reached: {error or type(error).__name__}")
    try:
        content = response.json()
    except ValueError:
        content = None
    status = response.status_code
    if response.is_success and content is not None:
        return Answer(url, done=True, status=status, content=content)
    if status == 404 and order.takes_away and _is_ours(content):
        return Answer(url, done=True, status=status, content=content)
    return Answer(url, done=False, status=status, content=content, fault=_fault(status, content))


def _is_ours(content: Any) -> bool:
    """Whether one of the fork's endpoints refused: where there is none, nothing was taken away."""
    error = content.get("error") if isinstance(content, dict) else None
    return isinstance(error, dict) and bool(error.get("param"))


def _fault(status: int, content: Any) -> str:
    error = content.get("error") if isinstance(content, dict) else None
    if isinstance(error, dict):
        error = error.get("message")
    return f"{status}: {error}" if error else f"{status}: no server of this fork answers there"
