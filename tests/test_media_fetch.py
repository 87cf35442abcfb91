"""Fetching media from real servers on the loopback interface, which an operator has listed."""

from __future__ import annotations

import asyncio
import gzip
import ipaddress
import logging
import shutil
import ssl
import subprocess
import threading
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import httpcore
import pytest
import pytest_asyncio
from support.media_server import MediaServer, make_png, serving

from sglang.srt.managers.io_struct import GenerateReqInput
from sglang.srt.tenancy.errors import RequestError
from sglang.srt.tenancy.media.fetch import Fetched, Fetcher, NotFetched, Room, parse_url
from sglang.srt.tenancy.media.hosts import Address, MediaHosts
from sglang.srt.tenancy.media.network import Lookup, NameLookup, NotAllowed
from sglang.srt.tenancy.media.references import RequestMedia
from sglang.srt.tenancy.media.remote import RemoteMedia
from sglang.srt.tenancy.media.slots import MOST_IN_ALL, MOST_OF_USER

PNG = make_png()
ROOM = 1 << 20
SILENT = logging.getLogger("test media")


@pytest_asyncio.fixture
async def server() -> AsyncIterator[MediaServer]:
    async with serving() as server:
        server.says("/a.png", body=PNG, Content_Type="image/png; charset=x", Set_Cookie="a=b")
        yield server


class Names:
    """A name server of our own: each name has a list of answers, the last for all later."""

    def __init__(self, **answers: Sequence[Sequence[str]]):
        self.answers = {name.replace("_", "."): list(said) for name, said in answers.items()}
        self.asked: list[str] = []

    async def __call__(self, host: str, port: int) -> list[Address]:
        self.asked.append(host)
        said = self.answers.get(host)
        found = [host] if said is None else said.pop(0) if len(said) > 1 else said[0]
        return [ipaddress.ip_address(one) for one in found]


def listed(server: MediaServer, *more: str) -> MediaHosts:
    return MediaHosts.of("public", [f"127.0.0.1:{server.ports[0]}", *more])


async def fetch(
    server: MediaServer, path: str, lookup: Lookup | None = None, room: int = ROOM
) -> Fetched:
    fetcher = Fetcher(listed(server), lookup or NameLookup(2))
    url = path if ":" in path else server.url(path)
    return await fetcher.fetch(parse_url(url), Room(room))


async def test_a_picture_is_fetched(server: MediaServer, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert await fetch(server, "/a.png#part") == Fetched(PNG, "image/png")
    assert await fetch(server, "/a.png") == Fetched(PNG, "image/png")
    head = server.asked[-1].lower()
    assert f"host: 127.0.0.1:{server.ports[0]}\r\n" in head
    assert "accept-encoding: identity\r\n" in head
    assert "cookie" not in head


async def test_a_name_stays_in_host(server: MediaServer) -> None:
    names = Names(pictures_invalid=[["127.0.0.1"]])
    assert await fetch(server, server.url("/a.png", "pictures.invalid"), names)
    assert f"Host: pictures.invalid:{server.ports[0]}\r\n" in server.asked[-1]
    assert names.asked == ["pictures.invalid"]


@pytest.mark.skipif(shutil.which("openssl") is None, reason="makes a certificate")
async def test_tls_speaks_of_the_name(tmp_path: Path) -> None:
    """The certificate is checked for the name, though the connection is to an address."""
    key, certificate = str(tmp_path / "key.pem"), str(tmp_path / "certificate.pem")
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key]
    made += ["-out", certificate, "-days", "2", "-subj", "/CN=pictures.invalid"]
    made += ["-addext", "subjectAltName=DNS:pictures.invalid"]
    subprocess.run(made, check=True, capture_output=True)
    own = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    own.load_cert_chain(certificate, key)
    trusted = ssl.create_default_context(cafile=certificate)
    async with serving(own) as server:
        server.says("/a.png", body=PNG)
        names = Names(pictures_invalid=[["127.0.0.1"]], other_invalid=[["127.0.0.1"]])
        port = server.ports[0]
        fetcher = Fetcher(listed(server), names, trusted)
        url = parse_url(f"https://pictures.invalid:{port}/a.png")
        assert (await fetcher.fetch(url, Room(ROOM))).content == PNG
        with pytest.raises(httpcore.ConnectError):
            await fetcher.fetch(parse_url(f"https://other.invalid:{port}/a.png"), Room(ROOM))
        with pytest.raises(httpcore.ConnectError):
            await Fetcher(listed(server), names).fetch(url, Room(ROOM))


async def test_what_is_not_listed_is_not_connected_to() -> None:
    async with serving(hosts=("127.0.0.1", "127.0.0.2", "::1")) as server:
        server.says("/", body=PNG)
        ports = server.ports
        for host in (
            *("127.0.0.2", "127.2", "2130706434", "0x7f000002", "[::ffff:127.0.0.2]"),
            *("[::ffff:7f00:2]", "[64:ff9b::7f00:2]"),
        ):
            with pytest.raises((NotAllowed, httpcore.ConnectError)):
                await fetch(server, f"http://{host}:{ports[1]}/")
        with pytest.raises(NotAllowed):
            await fetch(server, f"http://[::1]:{ports[2]}/")
        with pytest.raises(NotAllowed):
            await fetch(server, f"http://127.0.0.1:{ports[1]}/")
        assert server.asked == []
        assert server.most == 0


async def test_a_name_may_not_change_its_mind(server: MediaServer) -> None:
    """Public when it was looked up, private when it is connected to: there is one look only."""
    server.says("/again", 302, Location=server.url("/a.png", "changing.invalid"))
    names = Names(changing_invalid=[["127.0.0.1"], ["127.0.0.2"]])
    with pytest.raises(NotAllowed):
        await fetch(server, server.url("/again", "changing.invalid"), names)
    assert names.asked == ["changing.invalid"] * 2
    assert len(server.asked) == 1


@pytest.mark.parametrize("also", ["127.0.0.2", "10.0.0.1", "::1", "169.254.169.254"])
async def test_one_private_address_is_enough(server: MediaServer, also: str) -> None:
    names = Names(both_invalid=[["127.0.0.1", also]])
    with pytest.raises(NotAllowed):
        await fetch(server, server.url("/a.png", "both.invalid"), names)
    assert server.most == 0


async def test_another_address_is_tried() -> None:
    async with serving() as server:
        server.says("/a.png", body=PNG)
        hosts = listed(server, f"127.0.0.3:{server.ports[0]}")
        names = Names(two_invalid=[["127.0.0.3", "127.0.0.1"]])
        url = parse_url(server.url("/a.png", "two.invalid"))
        assert (await Fetcher(hosts, names).fetch(url, Room(ROOM))).content == PNG


async def test_redirects(server: MediaServer) -> None:
    server.says("/0", 302, Location="/a.png")
    for number in range(1, 5):
        server.says(f"/{number}", 307, Location=server.url(f"/{number - 1}"))
    server.says("/loop", 301, Location="/loop")
    assert (await fetch(server, "/2")).content == PNG
    for path in ("/4", "/loop"):
        server.asked.clear()
        with pytest.raises(NotFetched):
            await fetch(server, path)
        assert len(server.asked) == 4


@pytest.mark.parametrize(
    ("location", "error"),
    [
        ("http://127.0.0.2:80/", NotAllowed),
        ("http://169.254.169.254/latest/meta-data/", NotAllowed),
        ("http://[::1]/", NotAllowed),
        ("//localhost:22/", NotAllowed),
        ("file:///etc/passwd", NotFetched),
        ("ftp://127.0.0.1/", NotFetched),
        ("http://user:pw@127.0.0.1/", NotFetched),
        ("http://[", NotFetched),
        ("http://a b/", NotFetched),
    ],
)
async def test_a_redirect_is_checked_again(
    server: MediaServer, location: str, error: type[Exception]
) -> None:
    server.says("/away", 302, Location=location)
    with pytest.raises(error):
        await fetch(server, "/away")


async def test_a_body_has_an_end(server: MediaServer) -> None:
    server.streams("/endless", b"x" * 65_536, 0)
    room = Room(ROOM)
    fetcher = Fetcher(listed(server), NameLookup(2))
    with pytest.raises(NotFetched):
        await fetcher.fetch(parse_url(server.url("/endless")), room)
    assert -ROOM < room.left < 0
    while server.open:  # the connection was closed
        await asyncio.sleep(0.01)


async def test_a_body_that_says_it_is_too_large_is_not_read(server: MediaServer) -> None:
    server.says("/large", body=b"x" * 100, Content_Length="9" * 15)
    room = Room(ROOM)
    with pytest.raises(NotFetched):
        await Fetcher(listed(server), NameLookup(2)).fetch(parse_url(server.url("/large")), room)
    assert room.left == ROOM
    with pytest.raises(NotFetched):
        await fetch(server, "/a.png", room=len(PNG) - 1)
    assert (await fetch(server, "/a.png", room=len(PNG))).content == PNG


async def test_nothing_is_unpacked(server: MediaServer) -> None:
    server.says("/bomb", body=gzip.compress(b"\0" * 10_000_000), Content_Encoding="gzip")
    server.says("/same", body=PNG, Content_Encoding="Identity")
    with pytest.raises(NotFetched):
        await fetch(server, "/bomb")
    assert (await fetch(server, "/same")).content == PNG


@pytest.mark.parametrize("status", [204, 206, 304, 401, 404, 500])
async def test_only_200_is_an_answer(server: MediaServer, status: int) -> None:
    server.says("/", status, body=b"" if status in (204, 304) else PNG)
    with pytest.raises(NotFetched):
        await fetch(server, "/")


async def test_half_a_body_is_none(server: MediaServer) -> None:
    server.says("/half", body=PNG, Content_Length=str(len(PNG) + 1))
    with pytest.raises(httpcore.RemoteProtocolError):
        await fetch(server, "/half")


def remote(
    server: MediaServer, lookup: Lookup | None = None, seconds: float = 20.0, step: float = 0.01
) -> RemoteMedia:
    hosts = listed(server)
    fetcher = Fetcher(hosts, lookup or NameLookup(MOST_IN_ALL))
    return RemoteMedia(fetcher, hosts.described, seconds, ROOM, SILENT, step)


def media_of(request: GenerateReqInput) -> RequestMedia:
    return RequestMedia(request, ROOM, remote=True, operator=False)


def asks_for(*urls: str) -> GenerateReqInput:
    return GenerateReqInput(text="x", image_data=list(urls))


async def test_one_that_fails_fails_all_with_the_same_words(server: MediaServer) -> None:
    """Whatever there is, or is not, at the address; in a time that does not tell it either."""
    server.says("/none", 404)
    server.says("/away", 302, Location="http://169.254.169.254/")
    server.streams("/slow", b"x", 0.05)
    told = set()
    step = 0.3
    for url in (
        *(server.url("/none"), server.url("/away"), server.url("/slow"), "http://10.0.0.1/"),
        *("http://127.0.0.2:9/", "http://127.0.0.1:9/", "http://nothing.invalid/"),
    ):
        request = asks_for(server.url("/a.png"), url)
        began = time.monotonic()
        with pytest.raises(RequestError) as refused:
            await remote(server, seconds=0.2, step=step).bring(media_of(request), "alice")
        assert time.monotonic() - began >= step * 0.99
        told.add((str(refused.value), refused.value.status_code, refused.value.param))
        assert request.image_data == [server.url("/a.png"), url]
    ((message, status, param),) = told
    assert (status, param) == (400, "image_data")
    assert "127.0.0" not in message


async def test_fetches_are_counted(server: MediaServer) -> None:
    released = asyncio.Event()

    async def wait(writer: asyncio.StreamWriter) -> None:
        await released.wait()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nConnection: close\r\n\r\nx")
        await writer.drain()

    bringing = remote(server)
    paths = [f"/{number}" for number in range(2 * MOST_OF_USER)]
    server.answers |= dict.fromkeys(paths, wait)

    async def ask(users: int, expected: int) -> None:
        released.clear()
        urls = list(map(server.url, paths))
        media = [media_of(asks_for(*urls)) for _ in range(users)]
        asked = [
            asyncio.create_task(bringing.bring(one, f"user {number}"))
            for number, one in enumerate(media)
        ]
        while server.open < expected:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.2)  # for more than expected to come
        released.set()
        await asyncio.gather(*asked)

    await ask(1, MOST_OF_USER)
    assert server.most == MOST_OF_USER
    await ask(MOST_IN_ALL // MOST_OF_USER + 2, MOST_IN_ALL)
    assert server.most == MOST_IN_ALL
    assert not bringing._slots._of_users


async def test_who_goes_away_leaves_nothing(server: MediaServer) -> None:
    server.streams("/slow", b"x", 0.01)
    bringing = remote(server)
    asked = asyncio.create_task(bringing.bring(media_of(asks_for(server.url("/slow"))), "alice"))
    while not server.asked:
        await asyncio.sleep(0.01)
    asked.cancel()
    await asyncio.wait([asked])
    while server.open or bringing._fetching or bringing._slots._of_users:
        await asyncio.sleep(0.01)


async def test_a_name_server_that_hangs_holds_its_users_slots(
    server: MediaServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thread cannot be cancelled: until it returns, it is that user who has one less."""
    answered = threading.Event()
    calls: list[str] = []

    def hang(host: str, port: int) -> list[Address]:
        if host == "hangs.invalid":
            calls.append(host)
            answered.wait(20)
        return [ipaddress.ip_address("127.0.0.1")]

    monkeypatch.setattr("sglang.srt.tenancy.media.network._addresses", hang)
    bringing = remote(server, NameLookup(MOST_IN_ALL), seconds=0.3)
    hanging = [server.url(f"/{number}", "hangs.invalid") for number in range(3 * MOST_OF_USER)]
    for _ in range(3):
        with pytest.raises(RequestError):
            await bringing.bring(media_of(asks_for(*hanging)), "mallory")
    assert len(calls) == MOST_OF_USER
    hers = asks_for(server.url("/a.png"))
    bringing._seconds = 20.0
    await bringing.bring(media_of(hers), "alice")
    assert str(hers.image_data).startswith("['data:image/png;base64,")
    answered.set()
    while bringing._fetching:
        await asyncio.sleep(0.01)
    assert not bringing._slots._of_users
