"""Answer what operators ask of the proxy: /cache/stats, /cache/info, /cache/clear."""

from __future__ import annotations

import secrets
from dataclasses import asdict
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any

import orjson

from sglang.srt.tenancy.errors import RequestError
from sglang.srt.tenancy.response_cache.cache import ResponseCache

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

_METHODS = {"/cache/stats": "GET", "/cache/info": "GET", "/cache/clear": "POST"}


class Administration:
    """``admin_key``: that they need; without one, they are answered on the same machine only.

    ``place``: where answers are kept, for operators to read.
    """

    paths = frozenset(_METHODS)

    def __init__(self, cache: ResponseCache, admin_key: str | None, place: str | None):
        self._cache = cache
        self._key = admin_key
        self._place = place

    async def answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request. Raises RequestError: 401, 403 and 405."""
        path = scope["path"]
        self._check(scope)
        if scope["method"] != _METHODS[path]:
            raise RequestError(405, "method", f"method: {path} takes {_METHODS[path]}")
        if path == "/cache/clear":
            told: dict[str, Any] = {"cleared": await self._cache.clear()}
        else:
            told = await (self._stats() if path == "/cache/stats" else self._info())
        body = orjson.dumps(told)
        headers = [(b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _stats(self) -> dict[str, Any]:
        """Name them as other response caches do, and what these do not have after that."""
        counts, held = self._cache.counts, await self._cache.store.stats()
        asked = counts["hits"] + counts["misses"]
        return {
            "num_keys": held.entries,
            "hits": counts["hits"],
            "misses": counts["misses"],
            "hit_rate": counts["hits"] / asked if asked else 0.0,
            "cache_file": self._place,
            "pending_writes": self._cache.computing,
            "bypasses": counts["bypasses"],
            "seconds_saved": self._cache.seconds_saved,
        }

    async def _info(self) -> dict[str, Any]:
        return {"cache_file": self._place, "store": asdict(await self._cache.store.stats())}

    def _check(self, scope: Scope) -> None:
        if self._key is None:
            client = (scope.get("client") or ("",))[0]
            if not _is_here(client):
                fault = "Authorization: only this machine may ask; set the admin key's variable"
                raise RequestError(403, "Authorization", fault)
            return
        said = dict(scope["headers"]).get(b"authorization", b"")
        if not secrets.compare_digest(said, f"Bearer {self._key}".encode()):
            raise RequestError(401, "Authorization", "Authorization: send the proxy's admin key")


def _is_here(address: str) -> bool:
    try:
        return ip_address(address).is_loopback
    except ValueError:
        return False
