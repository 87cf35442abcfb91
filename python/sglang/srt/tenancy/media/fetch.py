"""Fetch one medium by its address: few redirects, bounded bytes, nothing but its bytes."""

from __future__ import annotations

import re
import ssl
from dataclasses import dataclass

import httpcore
import httpx

from sglang.srt.tenancy.media.hosts import MediaHosts
from sglang.srt.tenancy.media.network import CONNECT_SECONDS, CheckedNetwork, Lookup

MOST_REDIRECTS = 3
LONGEST_URL = 8192  # characters
_REDIRECTS = (301, 302, 303, 307, 308)
_SCHEMES = ("http", "https")
_HOST = re.compile(rb"[A-Za-z0-9._-]+|[0-9A-Fa-f:.]+")
_HEADERS = [
    (b"Accept", b"*/*"),
    (b"Accept-Encoding", b"identity"),
    (b"User-Agent", b"sglang-tenant-media"),
]


class NotFetched(Exception):
    """An answer that is no medium. What exactly it was is nobody's business outside the server."""


@dataclass(slots=True)
class Room:
    """Bytes that a request may still bring."""

    left: int

    def take(self, size: int) -> None:
        """Raises NotFetched when there is no room for so many."""
        self.left -= size
        if self.left < 0:
            raise NotFetched


@dataclass(frozen=True, slots=True)
class Fetched:
    """A medium's bytes, and what its server calls them (`image/png`)."""

    content: bytes
    media_type: str


def parse_url(text: str) -> httpx.URL:
    """Read an address of http or https. Raises ValueError that says what is wrong with it."""
    if len(text) > LONGEST_URL:
        raise ValueError(f"an address of more than {LONGEST_URL} characters")
    try:
        url = httpx.URL(text)
    except (httpx.InvalidURL, ValueError, TypeError):
        raise ValueError("no address that can be read") from None
    if url.scheme not in _SCHEMES or not _HOST.fullmatch(url.raw_host):
        raise ValueError("no address of a host, by http or https")
    if url.port is not None and not 0 < url.port < 65536:
        raise ValueError("an address with a port that is none")
    if url.userinfo:
        raise ValueError("an address may hold no user and password")
    return url.copy_with(fragment=None)


class Fetcher:
    """Fetches from hosts that are allowed. No proxy, no cookie, no connection is kept."""

    def __init__(
        self, hosts: MediaHosts, lookup: Lookup, tls: ssl.SSLContext | None = None
    ) -> None:
        self._network = CheckedNetwork(hosts, lookup)
        self._tls = httpx.create_ssl_context() if tls is None else tls

    async def fetch(self, url: httpx.URL, room: Room) -> Fetched:
        """Return what is at ``url``, for as many bytes as there is room.

        Raises NotFetched, NotAllowed, httpcore's errors, ssl's and OSError. Time is the caller's to
        bound.
        """
        for _ in range(1 + MOST_REDIRECTS):
            found = await self._ask(url, room)
            if isinstance(found, Fetched):
                return found
            url = found
        raise NotFetched

    async def _ask(self, url: httpx.URL, room: Room) -> Fetched | httpx.URL:
        """Return what is there, or where it is instead."""
        target = httpcore.URL(
            scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path
        )
        async with (
            httpcore.AsyncConnectionPool(
                ssl_context=self._tls, max_connections=1, network_backend=self._network
            ) as pool,
            pool.stream(
                "GET",
                target,
                headers=[(b"Host", url.netloc), *_HEADERS],
                extensions={"timeout": {"connect": CONNECT_SECONDS}},
            ) as response,
        ):
            answered = _headers(response)
            if response.status in _REDIRECTS:
                return _next(url, answered)
            # Bytes that a decoder would blow up are not asked for, so not taken either.
            if response.status != 200 or _is_encoded(answered):
                raise NotFetched
            if int(answered.get("content-length", "0")) > room.left:
                raise NotFetched
            content = bytearray()
            async for part in response.aiter_stream():
                room.take(len(part))
                content += part
            return Fetched(bytes(content), answered.get("content-type", "").partition(";")[0])


def _headers(response: httpcore.Response) -> dict[str, str]:
    return {
        name.decode("latin-1").lower(): value.decode("latin-1").strip()
        for name, value in response.headers
    }


def _is_encoded(headers: dict[str, str]) -> bool:
    return headers.get("content-encoding", "identity").lower() != "identity"


def _next(url: httpx.URL, headers: dict[str, str]) -> httpx.URL:
    try:
        return parse_url(str(url.join(headers.get("location", ""))))
    except (ValueError, TypeError, httpx.InvalidURL):
        raise NotFetched from None
