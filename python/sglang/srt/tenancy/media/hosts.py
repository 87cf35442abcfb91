"""Say which addresses the server may fetch media from."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeAlias

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

_PORTS = frozenset((80, 443))
_NAME = re.compile(r"\.?[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)*")
_LONGEST_NAME = 253

# What ipaddress takes for global in some version of Python or another.
_NOT_PUBLIC = tuple(
    ipaddress.ip_network(network)
    for network in (
        *("100.64.0.0/10", "192.0.0.0/24", "192.88.99.0/24"),
        "168.63.129.16/32",  # a cloud's metadata, at an address that looks public
        *("2001::/23", "2001:db8::/32", "3fff::/20"),
        "2002::/16",  # 6to4: an IPv4 address behind a relay
    )
)
_GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
# The interface's half of an ISATAP address, before the IPv4 address in it.
_ISATAP = (0x00005EFE, 0x02005EFE)


def is_public(address: Address) -> bool:
    """Tell whether an address is one of the public internet, whichever way it is written."""
    if isinstance(address, ipaddress.IPv6Address):
        inner = _inner(address)
        if inner is not None:
            return is_public(inner)
        if address not in _GLOBAL_UNICAST or (int(address) >> 32) & 0xFFFFFFFF in _ISATAP:
            return False
    if any(address in network for network in _NOT_PUBLIC):
        return False
    return address.is_global and not (address.is_multicast or address.is_reserved)


def _inner(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    """Return the IPv4 address that a packet to this one goes to."""
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped


@dataclass(frozen=True, slots=True)
class ListedHost:
    """One host, or several, that media may come from though they are not public.

    ``name``: a host's, or with a dot in front all names that end so. Or ``network``: addresses.
    """

    name: str | None
    network: Network | None
    ports: frozenset[int]

    @classmethod
    def parse(cls, text: str) -> ListedHost:
        """Read `NAME`, `.SUFFIX`, an address or a network (CIDR), each with `:PORT` or without.

        Raises ValueError that says what it is instead.
        """
        host, port = _divide(text)
        ports = _PORTS if port is None else frozenset((_port(port, text),))
        try:
            return cls(None, ipaddress.ip_network(host), ports)
        except ValueError:
            pass
        name = host.lower()
        # Without a letter it would be a number, which resolvers read as an address.
        if len(name) <= _LONGEST_NAME and _NAME.fullmatch(name) and re.search("[a-z]", name):
            return cls(name, None, ports)
        raise ValueError(f"{text!r} is no name, .suffix, address or network, with :port or without")

    def covers(self, name: str, address: Address, port: int) -> bool:
        """Tell whether this is a host called ``name`` at this address."""
        if port not in self.ports:
            return False
        if self.network is not None:
            mapped = getattr(address, "ipv4_mapped", None)
            return (mapped or address) in self.network
        assert self.name is not None
        return name.endswith(self.name) if self.name[0] == "." else name == self.name


@dataclass(frozen=True, slots=True)
class MediaHosts:
    """Where media may be fetched from: what is listed and, if ``public``, all public addresses."""

    public: bool
    listed: tuple[ListedHost, ...] = ()

    @classmethod
    def of(cls, which: str, listed: Iterable[str]) -> MediaHosts:
        """Read --tenant-remote-media and --tenant-media-host. Raises ValueError."""
        return cls(which == "public", tuple(map(ListedHost.parse, listed)))

    @property
    def described(self) -> str:
        """Where media may be, in words for who named another place."""
        listed = "one that the operator has listed"
        return f"a public address, on port 80 or 443, or {listed}" if self.public else listed

    def allow(self, name: str, address: Address, port: int) -> bool:
        """Tell whether media may come from this port of this address, under this name."""
        if self.public and port in _PORTS and is_public(address):
            return True
        name = name.lower().rstrip(".")
        return any(host.covers(name, address, port) for host in self.listed)


def _divide(text: str) -> tuple[str, str | None]:
    """Divide a host and its port. IPv6 has colons itself: with a port it is in brackets."""
    bracketed = re.fullmatch(r"\[([^\]]*)\](?::(.*))?", text)
    if bracketed:
        return bracketed[1], bracketed[2]
    if text.count(":") == 1:
        host, _, port = text.partition(":")
        return host, port
    return text, None


def _port(port: str, text: str) -> int:
    if not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise ValueError(f"{text!r}: {port!r} is no port")
    return int(port)
