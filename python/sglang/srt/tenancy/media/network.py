"""Connect to a host only where each of its addresses may be connected to.

The name is looked up once, and the connection goes to an address that was checked: what the name
resolves to a moment later does not matter. TLS and `Host` still speak of the name.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeAlias

import httpcore

from sglang.srt.tenancy.media.hosts import Address, MediaHosts

Lookup: TypeAlias = Callable[[str, int], Awaitable[Sequence[Address]]]

CONNECT_SECONDS = 5.0  # to one address of a host that may have others


class NotAllowed(Exception):
    """A host that media may not come from, or that does not exist."""


class NameLookup:
    """Looks names up in threads of its own: a slow name server holds nobody else's."""

    def __init__(self, threads: int):
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="media-names")

    async def __call__(self, host: str, port: int) -> list[Address]:
        """Return the host's addresses. Cancelled, it ends no sooner than its thread is free."""
        submitted = self._threads.submit(_addresses, host, port)
        looking = asyncio.wrap_future(submitted)
        try:
            return await asyncio.shield(looking)
        except asyncio.CancelledError:
            if not submitted.cancel():
                await asyncio.wait([looking])
            raise


def _addresses(host: str, port: int) -> list[Address]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        return [ipaddress.ip_address(address[4][0]) for address in found]
    except (OSError, ValueError):  # UnicodeError is one
        return []


class CheckedNetwork(httpcore.AsyncNetworkBackend):
    """The network, as far as media may come from it."""

    def __init__(self, hosts: MediaHosts, lookup: Lookup):
        self._hosts = hosts
        self._lookup = lookup
        self._network = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Connect to the first address that answers. Raises NotAllowed, or httpcore's errors.

        One address that is not allowed is enough: a name that has both kinds means no good.
        """
        addresses = await self._lookup(host, port)
        if not addresses or not all(self._hosts.allow(host, one, port) for one in addresses):
            raise NotAllowed
        failure: Exception = NotAllowed()
        for address in addresses:
            try:
                return await self._network.connect_tcp(
                    str(address), port, timeout, local_address, socket_options
                )
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
        raise failure

    async def connect_unix_socket(
        self,
        path: str,
        timeout: float | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        raise NotAllowed

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
