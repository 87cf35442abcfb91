"""A server of media on the loopback interface that answers as each path says, byte by byte."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable

import numpy as np

Answer = Callable[[asyncio.StreamWriter], Awaitable[None]]


def make_png(width: int = 8, height: int = 8, seed: int = 0) -> bytes:
    """Return a picture of random pixels."""

    def chunk(name: bytes, content: bytes) -> bytes:
        checked = name + content
        return len(content).to_bytes(4, "big") + checked + zlib.crc32(checked).to_bytes(4, "big")

    pixels = np.random.default_rng(seed).integers(0, 256, (height, 3 * width), np.uint8)
    lines = b"".join(b"\0" + line.tobytes() for line in pixels)
    head = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes((8, 2, 0, 0, 0))
    parts = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


class MediaServer:
    """``asked``: the heads of all requests. ``most``: how many were open at once, at most."""

    def __init__(self) -> None:
        self.answers: dict[str, Answer] = {}
        self.asked: list[str] = []
        self.open = 0
        self.most = 0
        self.ports: list[int] = []

    def url(self, path: str, host: str = "127.0.0.1") -> str:
        return f"http://{host}:{self.ports[0]}{path}"

    def says(self, path: str, status: int = 200, body: bytes = b"", **headers: str) -> None:
        """Answer with this; of headers' names `_` is `-`."""
        lines = {"Content-Length": str(len(body)), "Connection": "close"}
        lines |= {name.replace("_", "-"): value for name, value in headers.items()}
        head = f"HTTP/1.1 {status} Said\r\n" + "".join(f"{n}: {v}\r\n" for n, v in lines.items())

        async def answer(writer: asyncio.StreamWriter) -> None:
            writer.write(head.encode() + b"\r\n" + body)
            await writer.drain()

        self.answers[path] = answer

    def streams(self, path: str, part: bytes, seconds: float) -> None:
        """Answer without an end: one part after the other, with a pause between them."""

        async def answer(writer: asyncio.StreamWriter) -> None:
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\n\r\n")
            while True:
                writer.write(part)
                await writer.drain()
                await asyncio.sleep(seconds)

        self.answers[path] = answer

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open += 1
        self.most = max(self.most, self.open)
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            self.asked.append(head)
            await self.answers[head.split()[1]](writer)
        self.open -= 1
        writer.close()


@contextlib.asynccontextmanager
async def serving(
    tls: ssl.SSLContext | None = None, hosts: tuple[str, ...] = ("127.0.0.1",)
) -> AsyncIterator[MediaServer]:
    """Serve on a free port of each of these addresses."""
    server = MediaServer()
    listening = [await asyncio.start_server(server._serve, host, 0, ssl=tls) for host in hosts]
    server.ports = [one.sockets[0].getsockname()[1] for one in listening]
    try:
        yield server
    finally:
        for one in listening:
            one.close()
