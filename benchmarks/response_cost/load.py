"""Ask one request again and again over some connections, as a process of its own.

    python load.py < JSON, with the fields of ``Asked``

Prints JSON. A bare asyncio client, so that it is not what is measured.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
_ID = re.compile(rb'"id": ?"([^"]+)"')


@dataclass(frozen=True)
class Asked:
    """``seconds``: that each connection goes on asking; 0: each asks once."""

    url: str
    path: str
    body: dict[str, Any]
    headers: dict[str, str]
    connections: int
    seconds: float


def main() -> int:
    """Read what to ask, ask it, print what came."""
    print(json.dumps(asyncio.run(load(Asked(**json.load(sys.stdin))))))
    return 0


async def load(asked: Asked) -> dict[str, Any]:
    """Return latencies in seconds, distinct ids of answers, and how busy this client was."""
    host, port = urlsplit(asked.url).hostname, urlsplit(asked.url).port
    streams = await asyncio.gather(
        *(asyncio.open_connection(host, port) for _ in range(asked.connections))
    )
    request = _request(asked)
    latencies: list[float] = []
    ids: set[str] = set()
    began, busy = time.perf_counter(), time.process_time()

    async def go_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            started = time.perf_counter()
            writer.write(request)
            content = await _answer(reader)
            now = time.perf_counter()
            latencies.append(now - started)
            ids.add(_id(content))
            if now - began >= asked.seconds:
                return

    await asyncio.gather(*(go_on(*pair) for pair in streams))
    wall = time.perf_counter() - began
    for _, writer in streams:
        writer.close()
    return {
        "latencies": latencies,
        "seconds": wall,
        "ids": sorted(ids),
        "client_busy": (time.process_time() - busy) / wall,
    }


def _request(asked: Asked) -> bytes:
    content = json.dumps(asked.body).encode()
    lines = {
        "Host": urlsplit(asked.url).netloc,
        "Content-Type": "application/json",
        "Content-Length": str(len(content)),
        **asked.headers,
    }
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return f"POST {asked.path} HTTP/1.1\r\n{head}\r\n".encode() + content


async def _answer(reader: asyncio.StreamReader) -> bytes:
    """Return the body. Raises RuntimeError where the status is not 200."""
    head = await reader.readuntil(b"\r\n\r\n")
    if found := _LENGTH.search(head):
        content = await reader.readexactly(int(found[1]))
    else:
        content = await _chunks(reader)
    if b" 200 " not in head[:16]:
        raise RuntimeError((head + content)[:600].decode("utf-8", "replace"))
    return content


async def _chunks(reader: asyncio.StreamReader) -> bytes:
    parts = []
    while size := int(await reader.readline(), 16):
        parts.append(await reader.readexactly(size))
        await reader.readexactly(2)
    await reader.readexactly(2)
    return b"".join(parts)


def _id(content: bytes) -> str:
    found = _ID.search(content)
    return "" if found is None else found[1].decode()


if __name__ == "__main__":
    raise SystemExit(main())
