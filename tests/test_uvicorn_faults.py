"""Connections that break their requests, or never begin one: each ends alone, and in silence."""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import uvicorn

from sglang.srt.plugins.hook_registry import HookRegistry
from sglang.srt.tenancy.http import uvicorn_faults

SECONDS = 0.5
HEAD = b"POST %b HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
WHOLE = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
BROKEN = b"zz\r\n"


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Answer at once; under /read after the body was read; under /both before and after."""
    start = {"type": "http.response.start", "status": 200, "headers": []}
    if scope["path"] != "/read":
        await send(start)
    if scope["path"] == "/both":
        await send({"type": "http.response.body", "body": b"x", "more_body": True})
    if scope["path"] != "/":
        more = True
        while more:
            more = (await receive()).get("more_body", False)
    if scope["path"] == "/read":
        await send(start)
    await send({"type": "http.response.body", "body": b"done"})


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    uvicorn_faults.install(SECONDS)
    HookRegistry.apply_hooks()
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        config = uvicorn.Config(app, http="h11", lifespan="off", timeout_keep_alive=60)
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, args=([listening],), daemon=True)
        thread.start()
        while not server.started:
            time.sleep(0.01)
        yield listening.getsockname()[1]
        server.should_exit = True
        thread.join()


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """What is logged; uvicorn's own set-up keeps it from the root logger."""
    for name in ("uvicorn", "uvicorn.error", "asyncio"):
        logging.getLogger(name).addHandler(caplog.handler)
    return caplog


def _errors(log: pytest.LogCaptureFixture) -> list[str]:
    return [record.message for record in log.records if record.levelno >= logging.ERROR]


@contextmanager
def _connected(port: int) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        yield connection


def _all_of(connection: socket.socket) -> bytes:
    parts = []
    while part := connection.recv(65_536):
        parts.append(part)
    return b"".join(parts)


def _first_of(connection: socket.socket) -> bytes:
    return connection.recv(65_536).split(b"\r\n", 1)[0]


@pytest.mark.parametrize("path", [b"/", b"/read"])
def test_a_request_broken_before_its_handler_began_is_a_400(
    port: int, log: pytest.LogCaptureFixture, path: bytes
) -> None:
    with _connected(port) as connection:
        connection.sendall(HEAD % path + BROKEN)
        assert _all_of(connection).startswith(b"HTTP/1.1 400 ")
    assert _errors(log) == []


def test_a_request_broken_while_its_handler_reads_is_a_400(
    port: int, log: pytest.LogCaptureFixture
) -> None:
    with _connected(port) as connection:
        connection.sendall(HEAD % b"/read" + b"1\r\nx\r\n")
        time.sleep(0.1)
        connection.sendall(BROKEN)
        assert _all_of(connection).startswith(b"HTTP/1.1 400 ")
    assert _errors(log) == []


@pytest.mark.parametrize("path", [b"/", b"/both"])
def test_a_request_broken_after_its_answer_began_ends_the_connection(
    port: int, log: pytest.LogCaptureFixture, path: bytes
) -> None:
    with _connected(port) as connection:
        connection.sendall(HEAD % path)
        assert _first_of(connection) == b"HTTP/1.1 200 OK"
        connection.sendall(BROKEN)
        assert b"HTTP/1.1 " not in _all_of(connection)
    assert _errors(log) == []


@pytest.mark.parametrize("sent", [b"", b"GET / HT", WHOLE[:-2]])
def test_a_head_that_does_not_end_is_not_waited_for(port: int, sent: bytes) -> None:
    with _connected(port) as connection:
        began = time.monotonic()
        connection.sendall(sent)
        assert _all_of(connection) == b""
        assert SECONDS * 0.9 < time.monotonic() - began < 10 * SECONDS


def test_a_trickling_head_has_no_more_time(port: int) -> None:
    with _connected(port) as connection:
        began = time.monotonic()
        while time.monotonic() - began < 20 * SECONDS:
            try:
                connection.sendall(b"G")
            except OSError:
                break
            time.sleep(SECONDS / 10)
        assert SECONDS * 0.9 < time.monotonic() - began < 10 * SECONDS


def test_a_second_head_has_the_time_of_a_first(port: int) -> None:
    with _connected(port) as connection:
        connection.sendall(WHOLE)
        assert _first_of(connection) == b"HTTP/1.1 200 OK"
        time.sleep(2 * SECONDS)  # between requests uvicorn's own time runs
        began = time.monotonic()
        connection.sendall(WHOLE[:9])
        assert _all_of(connection) == b""
        assert SECONDS * 0.9 < time.monotonic() - began < 10 * SECONDS


def test_an_answer_takes_as_long_as_it_takes(port: int) -> None:
    with _connected(port) as connection:
        connection.sendall(HEAD % b"/both")
        assert _first_of(connection) == b"HTTP/1.1 200 OK"
        time.sleep(3 * SECONDS)
        connection.sendall(b"1\r\nx\r\n0\r\n\r\n")
        told = b""
        while b"done" not in told:
            told += connection.recv(65_536)


def test_nothing_is_kept_of_connections_that_are_gone(port: int) -> None:
    for sent in (b"", b"GET / HT", WHOLE, HEAD % b"/" + BROKEN, b"\0\0\r\n\r\n"):
        with _connected(port) as connection:
            connection.sendall(sent)
            if sent.endswith(b"\r\n\r\n"):
                connection.recv(1)
    deadline = time.monotonic() + 10 * SECONDS
    while len(uvicorn_faults._Heads._waiting) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert len(uvicorn_faults._Heads._waiting) == 0
