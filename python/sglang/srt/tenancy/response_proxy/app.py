"""The proxy's ASGI app: the cache answers what may be kept, all else is passed on."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from sglang.srt.tenancy.errors import RequestError, error_response
from sglang.srt.tenancy.response_cache.cache import ResponseCache
from sglang.srt.tenancy.response_cache.cacheable_request import CacheableRequest, Rules
from sglang.srt.tenancy.response_cache.endpoints.registry import endpoints
from sglang.srt.tenancy.response_cache.store import ResponseStore
from sglang.srt.tenancy.response_cache.temperature import Defaults, is_greedy
from sglang.srt.tenancy.response_cache.words import words
from sglang.srt.tenancy.response_proxy.administration import Administration
from sglang.srt.tenancy.response_proxy.forward import Forwarder
from sglang.srt.tenancy.response_proxy.importing import take_over
from sglang.srt.tenancy.response_proxy.owner import NOBODY, Anonymous, owner_of

if TYPE_CHECKING:
    from starlette.types import Message, Receive, Scope, Send

logger = logging.getLogger("uvicorn.error")

_MOST_BODY = 64 << 20  # bytes; the server behind has its own, lower bound
# What another server takes where a request names no temperature is not known: only 0 is 0.
_DEFAULTS = Defaults()


class Proxy:
    """Answers for the server at ``upstream``, of which nothing but OpenAI's API is expected.

    ``user_header``: that names users. ``place``: where answers are kept, for operators to read.
    ``overwrite``: what was kept there before is dropped. ``sglang``: whether that is what answers.
    ``take_from``: a file of another cache's, whose answers are kept as nobody's.
    """

    def __init__(
        self,
        upstream: str,
        store: ResponseStore,
        *,
        user_header: str | None = None,
        anonymous: Anonymous = "isolate",
        admin_key: str | None = None,
        place: str | None = None,
        overwrite: bool = False,
        sglang: bool = True,
        take_from: Path | None = None,
    ):
        self.forward = Forwarder(upstream)
        self.cache = ResponseCache(store, words, usable=_usable)
        self._rules = Rules(
            greedy=lambda path, body: is_greedy(path, body, _DEFAULTS),
            engine=lambda: self.forward.url,
        )
        self._user_header = user_header.lower().encode() if user_header else None
        self._anonymous: Anonymous = anonymous
        self._endpoints = endpoints(sglang=sglang)
        self._overwrite = overwrite
        self._take_from = take_from
        self._administration = Administration(self.cache, admin_key, place)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif scope["type"] == "http":
            try:
                await self._answer(scope, receive, send)
            except RequestError as error:
                status, param = error.status_code, error.param
                response = error_response(status, error.told, param, path=scope["path"])
                await response(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"]
        if path in self._administration.paths:
            await self._administration.answer(scope, receive, send)
            return
        if path not in self._endpoints or scope["method"] != "POST":
            await self.forward(scope, receive, send)
            return
        receive, raw = await _read(receive)
        asked = self._asked(path, scope["headers"], raw)
        if asked is None:
            await self.cache.bypass(self.forward, scope, receive, send)
        else:
            await self.cache.answer(asked, self.forward, scope, receive, send)

    def _asked(
        self, path: str, headers: list[tuple[bytes, bytes]], raw: bytes
    ) -> CacheableRequest | None:
        """Return what is asked for; None where it is not the cache's. Raises RequestError 400."""
        try:
            body = orjson.loads(raw)
        except orjson.JSONDecodeError:
            return None
        if not isinstance(body, dict):
            return None
        owner = owner_of(headers, body, self._user_header, self._anonymous)
        if owner is None:
            return None
        return self._rules.asked(self._endpoints[path], owner, headers, body)

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        if self._overwrite:
            await self.cache.clear()
        if self._take_from is not None:
            taken = await take_over(
                self._take_from, self.cache.store, self._rules, self._endpoints, NOBODY
            )
            logger.info("Took over answers to %d requests.", taken.requests)
            if taken.left_out:
                logger.warning("Left out of the file: %s", dict(taken.left_out))
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self.forward.close()
        await self.cache.store.close()
        await send({"type": "lifespan.shutdown.complete"})


def _usable(path: str, body: Mapping[str, Any], answer: bytes) -> bool:
    """Tell that a kept response may be given whose id nobody will ask for.

    Whether the server behind still knows the others is not known here.
    """
    return path != "/v1/responses" or body.get("store") is False


async def _read(receive: Receive) -> tuple[Receive, bytes]:
    """Read a body; return a receive that gives it again, and the bytes. Raises RequestError 413."""
    parts: list[bytes] = []
    size, more = 0, True
    while more:
        message = await receive()
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        more = message.get("more_body", False)
        if size > _MOST_BODY:
            fault = f"body: more than {_MOST_BODY} bytes; send a smaller one"
            raise RequestError(413, "body", fault)
    raw = b"".join(parts)
    pending: list[Message] = [{"type": "http.request", "body": raw, "more_body": False}]

    async def again() -> Message:
        return pending.pop() if pending else await receive()

    return again, raw
