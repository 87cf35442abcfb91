"""Streams of a server compared: with its whole answers, and with replays of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import groupby
from math import isclose
from threading import Thread
from typing import Any

import httpx

from sglang.srt.tenancy.response_cache.endpoints import sse

# What differs from one request to the next, wherever it stands: names, times, and what was found
# in the KV cache.
NAMES = ("id", "item_id", "call_id")
TIMES = ("created", "created_at", "e2e_latency", "response_sent_to_client_ts")
FOUND = ("cached_tokens", "cached_tokens_details")
CHANGING = frozenset((*NAMES, *TIMES, *FOUND))


def post_stream(client: httpx.Client, path: str, body: Mapping[str, Any]) -> list[bytes]:
    """Return the events of a stream. Raises where it is no 200."""
    splitter = sse.Splitter()
    with client.stream("POST", path, json=body) as response:
        if response.status_code != 200:
            response.read()
        response.raise_for_status()
        events = [event for data in response.iter_raw() for event in splitter.feed(data)]
    assert splitter.rest == b""
    return events


@contextmanager
def serving(events: Iterable[bytes]) -> Iterator[str]:
    """Answer whatever is posted with events; yields where."""
    stream = b"".join(events)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            self.send_response(200)
            self.send_header("content-type", "text/event-stream")
            self.send_header("content-length", str(len(stream)))
            self.end_headers()
            self.wfile.write(stream)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()


def lasting(value: Any) -> Any:
    """Leave out what changes, and what is null or empty."""
    if isinstance(value, dict):
        known = {name: lasting(each) for name, each in value.items() if name not in CHANGING}
        return {name: each for name, each in known.items() if each not in (None, {})}
    return [lasting(each) for each in value] if isinstance(value, list) else value


def differences(one: Any, other: Any, at: str = "") -> set[str]:
    """Return where two values differ, ``choices.text``; lists of other lengths as a whole."""
    if isinstance(one, dict) and isinstance(other, dict):
        names = one.keys() | other.keys()
        inner = (differences(one.get(n), other.get(n), f"{at}.{n}" if at else n) for n in names)
        return set().union(*inner)
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        inner = (differences(mine, yours, at) for mine, yours in zip(one, other, strict=True))
        return set().union(*inner)
    if isinstance(one, float) and isinstance(other, float):
        # Logprobs, which depend a little on what else is in the batch.
        return set() if isclose(one, other, abs_tol=1e-3) else {at}
    return set() if one == other else {at}


def kinds(events: Iterable[bytes]) -> list[str]:
    """Say what is in each event, and in which order; runs of the same are one, choices apart."""
    shapes = [shape for event in events for shape in _shapes(event)]
    # How choices take turns depends on the engine's batches.
    shapes.sort(key=lambda shape: shape[0])
    return [f"{index}: {said}" for (index, said), _ in groupby(shapes)]


def _shapes(event: bytes) -> Iterator[tuple[int, str]]:
    kind, data = sse.read(event)
    if data == b"[DONE]":
        yield 99, "DONE"
        return
    ((value,), _) = sse.objects([event])
    if kind:
        index = value.get("output_index", value.get("index"))
        yield 0, f"{kind} {'' if index is None else index}"
    elif "meta_info" in value:
        reason = value["meta_info"]["finish_reason"]
        yield value.get("index", 0), " ".join([*sorted(value), str(reason)])
    else:
        yield from _choices(value)


def _choices(chunk: dict[str, Any]) -> Iterator[tuple[int, str]]:
    used = "usage" if chunk.get("usage") else ""
    for choice in chunk["choices"]:
        delta = choice.pop("delta", {})
        # An opening's text is empty, not missing.
        choice.pop("matched_stop", None)
        said = {name for name, value in (choice | delta).items() if value is not None}
        empty = {f"no {name}" for name in ("text", "content") if (choice | delta).get(name) == ""}
        yield choice["index"], " ".join([*sorted(said | empty), used])
    if not chunk["choices"]:
        yield 98, " ".join(["no choices", used, *sorted(set(chunk) - {"usage", "choices"})])
