"""Send one case over a connection of its own, to the byte as it is meant; read what comes."""

from __future__ import annotations

import http.client
import json
import socket
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass

from cases import CHUNKED, Case

SECONDS = 5.0  # for one answer; then the client hangs up
_PAUSE = 0.02  # seconds between two pieces of a body
_MOST_READ = 4 << 20  # bytes of an answer that are looked at


@dataclass(frozen=True)
class Answer:
    """``status``: 0 where none came. ``left``: the client hung up before it was through."""

    status: int
    text: str
    left: bool = False


def send(case: Case, port: int, key: str) -> Answer:
    """Send the case and read the answer to it."""
    refused = False
    deadline = time.monotonic() + (SECONDS if case.leaves is None else case.leaves)
    with socket.create_connection(("127.0.0.1", port), timeout=SECONDS) as connection:
        try:
            refused = _refuses(connection, case, key)
            answer = _read(connection, case.method, deadline)
        except TimeoutError:
            answer = Answer(0, "", left=True)
        except (OSError, http.client.HTTPException) as error:
            # An answer sent to somebody who still sends may be lost on the way.
            answer = Answer(0, type(error).__name__, left=refused)
        if answer.left and case.leaves is not None and int(case.leaves * 1000) % 2:
            # Half of those who leave do it with a reset.
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        return answer


def _refuses(connection: socket.socket, case: Case, key: str) -> bool:
    """Send the case; tell whether the server closed the connection before it was through."""
    try:
        _write(connection, case, key)
    except (BrokenPipeError, ConnectionResetError):
        return True
    return False


def _write(connection: socket.socket, case: Case, key: str) -> None:
    content = _content(case)
    head = _head(case, content, key)
    if case.framing == "twice":
        connection.sendall((head + content) * 2)
        return
    if case.framing in ("expect", "late bad chunk"):
        # The rest comes when the server waits for it, or when an answer has begun without it.
        connection.sendall(head)
        time.sleep(_PAUSE)
        connection.sendall(b"".join(_framed(case.framing, content)))
    elif case.framing != "pieces":
        connection.sendall(head + b"".join(_framed(case.framing, content)))
    else:
        connection.sendall(head)
        third = len(content) // 3 + 1
        for start in range(0, len(content), third):
            connection.sendall(content[start : start + third])
            time.sleep(_PAUSE)
    if case.framing in ("short", "endless"):
        connection.shutdown(socket.SHUT_WR)


def _content(case: Case) -> bytes:
    if case.raw is not None:
        return case.raw.encode("latin-1")
    return b"" if case.body is None else json.dumps(case.body).encode()


def _head(case: Case, content: bytes, key: str) -> bytes:
    size = len(content)
    ordinary = {
        "Host": "127.0.0.1",
        "Authorization": f"Bearer {key}",
        "Content-Type": "application/json",
    }
    for name, value in _framing_headers(case.framing, size):
        ordinary[name] = value
    replaced = {name.lower() for name, _ in case.headers}
    lines = [(name, value) for name, value in ordinary.items() if name.lower() not in replaced]
    lines += [(name, value) for name, value in case.headers if value]
    version = {"1.0": "HTTP/1.0", "no HTTP": "HTTP/9.9x"}.get(case.framing, "HTTP/1.1")
    text = f"{case.method} {case.path} {version}\r\n"
    text += "".join(f"{name}: {value}\r\n" for name, value in lines) + "\r\n"
    return text.encode("utf-8", "surrogatepass")


def _framing_headers(framing: str, size: int) -> Iterator[tuple[str, str]]:
    if framing in CHUNKED:
        yield "Transfer-Encoding", "chunked"
    lengths = {"both": size, "short": size + 10, "long": max(size - 5, 0), "negative": -1}
    if framing == "two lengths":
        yield "Content-Length", f"{size}\r\nContent-Length: {size + 1}"
    elif framing in lengths:
        yield "Content-Length", str(lengths[framing])
    elif framing not in ("none", *CHUNKED) and size:
        yield "Content-Length", str(size)
    if framing == "expect":
        yield "Expect", "100-continue"


def _framed(framing: str, content: bytes) -> Iterator[bytes]:
    """Cut a body into chunks, where it travels in some."""
    if framing == "none":
        return
    if framing not in CHUNKED:
        yield content
        return
    step = max(len(content) // 4, 1)
    for start in range(0, len(content), step):
        part = content[start : start + step]
        size = "zz" if "bad chunk" in framing else f"{len(part):x};x=y"
        yield f"{size}\r\n".encode() + part + b"\r\n"
    if framing != "endless":
        yield b"0\r\n\r\n"


def _read(connection: socket.socket, method: str, deadline: float) -> Answer:
    response = http.client.HTTPResponse(connection, method=method)
    connection.settimeout(max(deadline - time.monotonic(), 0.001))
    response.begin()
    parts: list[bytes] = []
    size = 0
    while size < _MOST_READ:
        connection.settimeout(max(deadline - time.monotonic(), 0.001))
        try:
            part = response.read1(65_536)
        except TimeoutError:
            return Answer(response.status, _text(parts), left=True)
        if not part:
            break
        parts.append(part)
        size += len(part)
    return Answer(response.status, _text(parts))


def _text(parts: list[bytes]) -> str:
    return b"".join(parts).decode("utf-8", "replace")
