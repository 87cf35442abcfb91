"""A server of OpenAI's chat completions that does as told, also what a real one does seldom."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

MODEL = "stub"


@dataclass(frozen=True)
class Say:
    """One answer: a status with headers, or pieces of a stream.

    ``pause``: seconds before each piece. ``cached``: as usage says it, None leaves it out.
    ``breaks``: the stream ends before its end; ``drops``: the connection, before any answer, after
    ``silence`` seconds.
    """

    pieces: tuple[str, ...] = ("yes",)
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    pause: float = 0.0
    cached: int | None = None
    finish: str | None = "stop"
    breaks: bool = False
    drops: bool = False
    silence: float = 0.0


class Stub(ThreadingHTTPServer):
    """Answers as told, in turn, the last for ever; ``asked``: the bodies it got."""

    daemon_threads = True

    def __init__(self, *answers: Say) -> None:
        self.answers = list(answers) or [Say()]
        self.asked: list[dict[str, Any]] = []
        self.keys: list[str] = []
        self.lock = threading.Lock()
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"

    def next(self, body: dict[str, Any]) -> Say:
        """Note what is asked; return what is answered."""
        with self.lock:
            self.asked.append(body)
            return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


@contextmanager
def running(*answers: Say) -> Iterator[Stub]:
    """A stub that listens inside the with statement."""
    stub = Stub(*answers)
    thread = threading.Thread(target=stub.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield stub
    finally:
        stub.shutdown()
        stub.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    server: Stub

    def do_GET(self) -> None:
        self._json(200, {"object": "list", "data": [{"id": MODEL, "object": "model"}]})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.keys.append(self.headers.get("Authorization", ""))
        if self.path != "/v1/chat/completions":
            self._json(404, {"error": {"message": "not found"}})
            return
        say = self.server.next(body)
        time.sleep(say.silence)
        if say.drops:
            self.close_connection = True
        elif say.status != 200:
            self._json(say.status, {"error": {"message": "as told"}}, say.headers)
        else:
            self._stream(say, body)

    def _json(self, status: int, content: object, headers: dict[str, str] | None = None) -> None:
        data = json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _stream(self, say: Say, body: dict[str, Any]) -> None:
        self.send_response(200)
        for name, value in {"Content-Type": "text/event-stream", **say.headers}.items():
            self.send_header(name, value)
        if say.breaks:
            self.send_header("Content-Length", "100000")
        self.end_headers()
        for piece in say.pieces:
            time.sleep(say.pause)
            self._event({"choices": [{"index": 0, "delta": {"content": piece}}]})
        if say.breaks:
            return
        if say.finish is not None:
            self._event({"choices": [{"index": 0, "delta": {}, "finish_reason": say.finish}]})
        self._event({"choices": [], "usage": _usage(say, body)})
        self.wfile.write(b"data: [DONE]\n\n")

    def _event(self, fields: dict[str, Any]) -> None:
        event = {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": MODEL}
        try:
            self.wfile.write(f"data: {json.dumps(event | fields)}\n\n".encode())
            self.wfile.flush()
        except OSError:
            self.close_connection = True

    def log_message(self, *args: object) -> None:
        pass


def _usage(say: Say, body: dict[str, Any]) -> dict[str, Any]:
    prompt = sum(len(message["content"]) for message in body["messages"])
    written = len(say.pieces)
    usage: dict[str, Any] = {"prompt_tokens": prompt, "completion_tokens": written}
    usage["total_tokens"] = prompt + written
    if say.cached is not None:
        usage["prompt_tokens_details"] = {"cached_tokens": say.cached}
    return usage
