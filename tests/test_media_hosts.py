"""From which addresses media may be fetched, however somebody writes them."""

from __future__ import annotations

import ipaddress
import socket

import pytest

from sglang.srt.tenancy.media.fetch import parse_url
from sglang.srt.tenancy.media.hosts import ListedHost, MediaHosts, is_public
from sglang.srt.tenancy.media.network import NameLookup

PUBLIC = [
    *("8.8.8.8", "1.1.1.1", "93.184.216.34", "172.15.255.255", "172.32.0.1", "100.128.0.1"),
    *("2606:4700:4700::1111", "2a00:1450:4001::1", "64:ff9b::8.8.8.8", "::ffff:8.8.8.8"),
]
NOT_PUBLIC = [
    *("0.0.0.0", "0.1.2.3", "10.0.0.1", "100.64.0.1", "100.100.100.200", "127.0.0.1"),
    *("127.255.255.254", "169.254.169.254", "172.16.0.1", "172.31.255.255", "192.0.0.192"),
    *("192.0.2.1", "192.88.99.1", "192.168.0.1", "198.18.0.1", "198.51.100.1", "203.0.113.1"),
    *("224.0.0.1", "239.255.255.250", "240.0.0.1", "255.255.255.255", "168.63.129.16"),
    *("::", "::1", "::127.0.0.1", "::8.8.8.8", "fe80::1", "fe80::1%eth0", "fec0::1", "fc00::1"),
    *("fd00:ec2::254", "fd20:ce::254", "ff02::1", "ff0e::1", "100::1", "2001:db8::1", "5f00::1"),
    *("::ffff:127.0.0.1", "::ffff:169.254.169.254", "::ffff:0:127.0.0.1", "64:ff9b::10.0.0.1"),
    *("64:ff9b::7f00:1", "64:ff9b:1::8.8.8.8", "2002:7f00:1::", "2002:808:808::1"),
    *("2001:0:4136:e378:8000:63bf:3fff:fdd2", "2001:10::1", "2001:20::1", "3fff::1"),
    *("2606:4700::5efe:127.0.0.1", "2606:4700::200:5efe:10.0.0.1"),
]


@pytest.mark.parametrize("text", PUBLIC)
def test_public(text: str) -> None:
    assert is_public(ipaddress.ip_address(text))


@pytest.mark.parametrize("text", NOT_PUBLIC)
def test_not_public(text: str) -> None:
    assert not is_public(ipaddress.ip_address(text))


# What resolvers take for an address: each of them is 127.0.0.1, 169.254.169.254 or 0.0.0.0.
DISGUISED = [
    *("127.1", "127.0.1", "2130706433", "0x7f000001", "017700000001", "0177.1", "0x7f.1"),
    *("2852039166", "0xa9fea9fe", "0251.0376.43518", "169.254.43518", "0", "0.0"),
    *("localhost", "LOCALHOST", "127.0.0.1.", "[::1]", "[::ffff:7f00:1]", "[0:0:0:0:0:0:0:1]"),
]


@pytest.mark.parametrize("host", DISGUISED)
async def test_another_spelling_is_the_same_address(host: str) -> None:
    url = parse_url(f"http://{host}/")
    addresses = await NameLookup(1)(url.host, 80)
    assert not any(MediaHosts(public=True).allow(url.host, one, 80) for one in addresses)
    if not addresses:  # some resolvers are strict: then nothing is connected to
        with pytest.raises(socket.gaierror):
            socket.getaddrinfo(url.host, 80)


@pytest.mark.parametrize(
    "text",
    [
        *("ftp://example.com/x", "file:///etc/passwd", "//example.com/x", "example.com", "http://"),
        *("http://user:pw@example.com/", "http://user@example.com/", "http://a b/", "http://["),
        *("http://h:99999/", "http://①②⑦.⓪.⓪.①/", "http://example.com\r\nHost: x/", "http:/x"),
        *(
            "http://h:0/",
            "http://0177.0.0.1/",
            "http://a\\@b/",
            "http://a%2fb/",
            "http://[::1%251]/",
        ),
        "http://example.com/" + "x" * 9000,
    ],
)
def test_no_address_to_fetch(text: str) -> None:
    with pytest.raises(ValueError, match="address"):
        parse_url(text)


LISTED = {
    "pictures.example.com": [("pictures.example.com", "10.0.0.1", 80)],
    ".example.com": [("a.example.com", "10.0.0.1", 443), ("a.b.example.com", "::1", 80)],
    "10.0.0.0/8": [("any", "10.1.2.3", 80), ("any", "::ffff:10.1.2.3", 443)],
    "10.0.0.1:8080": [("any", "10.0.0.1", 8080)],
    "store:9000": [("store", "10.0.0.1", 9000), ("STORE.", "192.168.0.1", 9000)],
    "fd00::/8": [("any", "fd00::1", 80)],
    "[fd00::1]:8080": [("any", "fd00::1", 8080)],
    "::1": [("any", "::1", 80)],
}
NOT_LISTED = {
    "pictures.example.com": [
        ("example.com", "10.0.0.1", 80),
        ("x.pictures.example.com", "10.0.0.1", 80),
        ("pictures.example.com", "10.0.0.1", 8080),
    ],
    ".example.com": [("example.com", "10.0.0.1", 80), ("badexample.com", "10.0.0.1", 80)],
    "10.0.0.0/8": [("any", "11.0.0.1", 80), ("any", "10.0.0.1", 22), ("any", "::1", 80)],
    "10.0.0.1:8080": [("any", "10.0.0.1", 80), ("any", "10.0.0.2", 8080)],
    "[fd00::1]:8080": [("any", "fd00::1", 80)],
}


@pytest.mark.parametrize("entry", LISTED)
def test_listed(entry: str) -> None:
    hosts = MediaHosts(public=False, listed=(ListedHost.parse(entry),))
    for name, address, port in LISTED[entry]:
        assert hosts.allow(name, ipaddress.ip_address(address), port)


@pytest.mark.parametrize("entry", NOT_LISTED)
def test_not_listed(entry: str) -> None:
    hosts = MediaHosts(public=True, listed=(ListedHost.parse(entry),))
    for name, address, port in NOT_LISTED[entry]:
        assert not (
            hosts.allow(name, ipaddress.ip_address(address), port)
            and not is_public(ipaddress.ip_address(address))
        )


@pytest.mark.parametrize("public", [True, False])
def test_public_addresses_have_two_ports(public: bool) -> None:
    hosts, address = MediaHosts(public=public), ipaddress.ip_address("8.8.8.8")
    allowed = [port for port in (22, 80, 443, 8080) if hosts.allow("any", address, port)]
    assert allowed == ([80, 443] if public else [])


@pytest.mark.parametrize(
    "entry",
    [
        "",
        "*",
        "http://a",
        "a/b",
        "a:",
        "a:0",
        "a:65536",
        "a:x",
        "10.0.0.1/8",
        "1.2.3",
        "[::1",
        "a b",
    ],
)
def test_what_no_host_is(entry: str) -> None:
    with pytest.raises(ValueError, match="is no"):
        ListedHost.parse(entry)
