"""Random plays of clients on the response cache, before an app that counts what it computes."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from sglang.srt.tenancy.errors import RequestError
from sglang.srt.tenancy.response_cache.cache import ResponseCache
from sglang.srt.tenancy.response_cache.cache_control import CacheControl
from sglang.srt.tenancy.response_cache.cacheable_request import CacheableRequest, Rules
from sglang.srt.tenancy.response_cache.endpoints.registry import ENDPOINTS
from sglang.srt.tenancy.response_cache.entry import Entry, Key
from sglang.srt.tenancy.response_cache.memory import MemoryStore
from sglang.srt.tenancy.response_cache.store import Found
from sglang.srt.tenancy.response_cache.temperature import Defaults, is_greedy
from sglang.srt.tenancy.response_cache.words import words

PATH = "/v1/completions"
OWNERS = ("ann", "ben")
PROMPTS = ("one", "two", "three")


@dataclass
class Computing:
    """An app that answers each request with its own words, when it is let.

    ``going``: how many of each owner's prompt are computed now; ``most``: at one time, ever.
    """

    source: random.Random
    fails: float = 0.0
    serial: int = 0
    samples: int = 0
    aborted: int = 0
    going: Counter[tuple[str, str, int]] = field(default_factory=Counter)
    most: int = 0
    weights: int = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body = json.loads((await receive())["body"])
        what = (scope["owner"], body["prompt"], body.get("n", 1))
        self.serial += 1
        self.samples += body["n"]
        serial, weights = self.serial, self.weights
        self.going[what] += 1
        self.most = max(self.most, self.going[what])
        leaving = asyncio.ensure_future(receive())
        try:
            await self._answer(body, scope["owner"], serial, weights, leaving, send)
        finally:
            leaving.cancel()
            self.going[what] -= 1

    async def _answer(
        self, body: Any, owner: str, serial: int, weights: int, leaving: Any, send: Any
    ) -> None:
        texts = [f"{owner} {body['prompt']} {weights} {serial} {i}" for i in range(body["n"])]
        fails = self.source.random() < self.fails
        await self._wait()
        if fails and self.source.random() < 0.5:
            await _send(send, 400, b"application/json", [b'{"error": {}}'])
            return
        if not body["stream"]:
            if await self._left(leaving):
                return
            choices = [_choice(i, text, "stop") for i, text in enumerate(texts)]
            answer = {"id": f"cmpl-{serial}", "object": "text_completion", "choices": choices}
            await _send(send, 200, b"application/json", [json.dumps(answer).encode()])
            return
        headers = [(b"content-type", b"text/event-stream")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        for event in self._events(texts, serial, fails=fails):
            await self._wait()
            if await self._left(leaving):
                break
            # In pieces that do not end where events do.
            for part in (event[:7], event[7:]):
                await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    def _events(self, texts: list[str], serial: int, *, fails: bool) -> list[bytes]:
        chunks = []
        for index, text in enumerate(texts):
            pieces = words(text)
            for number, piece in enumerate(pieces):
                last = number == len(pieces) - 1
                chunks.append([_choice(index, piece, "stop" if last else None)])
        events = [
            b"data: " + json.dumps(_chunk(serial, choices)).encode() + b"\n\n" for choices in chunks
        ]
        if fails:
            return [*events[:1], b'data: {"error": {"message": "it failed"}}\n\n']
        return [*events, b"data: [DONE]\n\n"]

    async def _left(self, leaving: asyncio.Future[Any]) -> bool:
        """Tell whether nobody waits any more; then it takes some time to stop."""
        if not leaving.done():
            return False
        self.aborted += 1
        await self._wait()
        await self._wait()
        return True

    async def _wait(self) -> None:
        for _ in range(self.source.randrange(4)):
            await asyncio.sleep(0)


def _choice(index: int, text: str, finish: str | None) -> dict[str, Any]:
    return {"index": index, "text": text, "logprobs": None, "finish_reason": finish}


def _chunk(serial: int, choices: list[Any]) -> dict[str, Any]:
    return {"id": f"cmpl-{serial}", "object": "text_completion", "choices": choices}


async def _send(send: Any, status: int, kind: bytes, parts: list[bytes]) -> None:
    headers = [(b"content-type", kind)]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    for number, part in enumerate(parts):
        more = number < len(parts) - 1
        await send({"type": "http.response.body", "body": part, "more_body": more})


class SlowStore(MemoryStore):
    """As a file or another machine: others are served while it answers."""

    def __init__(self, source: random.Random, size: int):
        super().__init__(size, None, lambda owner: 1.0)
        self._source = source

    async def get(self, key: Key) -> Found:
        found = await super().get(key)
        await self._pass()
        return found

    async def put(self, key: Key, entry: Entry, ticket: object) -> bool:
        await self._pass()
        return await super().put(key, entry, ticket)

    async def _pass(self) -> None:
        for _ in range(self._source.randrange(12)):
            await asyncio.sleep(0)


@dataclass
class Client:
    """One request, and what it was answered. ``patience``: turns of the loop until it leaves."""

    owner: str
    body: dict[str, Any]
    headers: list[tuple[bytes, bytes]]
    patience: int | None
    status: int = 0
    said: str = ""
    raw: bytes = b""
    complete: bool = False

    async def ask(self, rules: Rules, cache: ResponseCache, app: Computing) -> None:
        scope = {"type": "http", "method": "POST", "path": PATH, "headers": [], "owner": self.owner}
        asked = rules.asked(ENDPOINTS[PATH], self.owner, self.headers, self.body)
        if asked is None:
            await cache.bypass(app, scope, self._receive(), self._send)
        else:
            await cache.answer(asked, app, scope, self._receive(), self._send)

    def _receive(self) -> Callable[[], Any]:
        pending = [{"type": "http.request", "body": json.dumps(self.body).encode()}]

        async def receive() -> Any:
            if pending:
                return pending.pop()
            if self.patience is None:
                await asyncio.Event().wait()
            for _ in range(self.patience or 0):
                await asyncio.sleep(0)
            return {"type": "http.disconnect"}

        return receive

    async def _send(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            assert self.status == 0
            self.status = message["status"]
            self.said = dict(message["headers"])[b"x-cache"].decode()
            return
        assert not self.complete
        self.raw += message.get("body", b"")
        self.complete = not message.get("more_body", False)

    @property
    def texts(self) -> list[str]:
        """What was answered, by choice; whole or out of a stream."""
        if not self.body.get("stream"):
            return [choice["text"] for choice in json.loads(self.raw)["choices"]]
        joined: dict[int, str] = {}
        for event in self.raw.decode().split("\n\n"):
            if event.startswith("data: {"):
                for choice in json.loads(event[6:]).get("choices", ()):
                    joined[choice["index"]] = joined.get(choice["index"], "") + choice["text"]
        return [joined[index] for index in sorted(joined)]


def _client(source: random.Random) -> Client:
    body: dict[str, Any] = {
        "prompt": source.choice(PROMPTS),
        "stream": source.random() < 0.5,
        "n": source.choice((1, 1, 1, 2, 3)),
        "temperature": source.choice((0, 0, 0, 1)),
    }
    if source.random() < 0.3:
        body["cache_bucket"] = source.choice((1, 2, 4))
    directive = source.choice((b"", b"", b"", b"no-cache", b"no-store", b"max-age=5", b"max-age=0"))
    headers = [(b"cache-control", directive)] if directive else []
    patience = source.randrange(40) if source.random() < 0.3 else None
    return Client(source.choice(OWNERS), body, headers, patience)


RULES = Rules(
    greedy=lambda path, body: is_greedy(path, body, Defaults()), engine=lambda: ["a model"]
)


@pytest.mark.parametrize("seed", range(60))
async def test_each_client_gets_an_answer_to_what_it_asked(seed: int) -> None:
    source = random.Random(seed)
    app = Computing(source, fails=source.choice((0.0, 0.2)))
    cache = ResponseCache(SlowStore(source, source.choice((3_000, 100_000))), words)
    asking: list[tuple[Client, asyncio.Task[None]]] = []
    for _ in range(60):
        client = _client(source)
        asking.append((client, asyncio.ensure_future(client.ask(RULES, cache, app))))
        for _ in range(source.choice((0, 0, 1, 3, 30))):
            await asyncio.sleep(0)
        if source.random() < 0.05:
            await cache.clear(source.choice((None, *OWNERS)))
    await asyncio.wait_for(asyncio.gather(*(task for _, task in asking)), 30)
    for client, _ in asking:
        _check(client, fails=app.fails > 0)
    for _ in range(200):
        await asyncio.sleep(0)
    assert cache.computing == 0
    assert not +app.going
    assert cache.counts.total() >= sum(client.complete for client, _ in asking)


def _check(client: Client, *, fails: bool) -> None:
    """Check that what a client was told is of its own, complete, and as much as it asked for."""
    streamed_whole = b"[DONE]" in client.raw or not client.body["stream"]
    if client.patience is not None and not (client.complete and streamed_whole):
        return  # it left
    assert client.complete
    assert client.status in ((200, 400) if fails else (200,))
    if client.status != 200 or b'"error"' in client.raw:
        return
    texts = client.texts
    assert len(texts) == client.body["n"]
    assert len(set(texts)) == len(texts)
    assert all(text.startswith(f"{client.owner} {client.body['prompt']} ") for text in texts)


async def test_after_a_clear_nothing_computed_before_is_given() -> None:
    """Weights change while answers are computed: none of the old ones comes after that."""
    source = random.Random(1)
    for _ in range(200):
        app = Computing(source)
        cache = ResponseCache(MemoryStore(100_000, None, lambda owner: 1.0), words)
        body = {"prompt": "one", "temperature": 0, "n": 1, "stream": source.random() < 0.5}
        early = Client("ann", body, [], None)
        asking = asyncio.ensure_future(early.ask(RULES, cache, app))
        for _ in range(source.randrange(30)):
            await asyncio.sleep(0)
        app.weights = 1
        await cache.clear(source.choice((None, "ann")))
        late = Client("ann", body, [], None)
        await late.ask(RULES, cache, app)
        assert late.texts[0].split()[2] == "1"
        await asking
        last = Client("ann", body, [], None)
        await last.ask(RULES, cache, app)
        assert last.texts == late.texts


async def test_what_is_kept_or_under_way_is_not_computed_again() -> None:
    for seed in range(40):
        source = random.Random(seed)
        app = Computing(source)
        cache = ResponseCache(SlowStore(source, 100_000), words)
        body = {"prompt": "one", "temperature": 0, "n": 1}
        asking = []
        for _ in range(30):
            client = Client("ann", body | {"stream": source.random() < 0.5}, [], None)
            asking.append(asyncio.ensure_future(client.ask(RULES, cache, app)))
            for _ in range(source.randrange(6)):
                await asyncio.sleep(0)
        await asyncio.gather(*asking)
        assert app.serial == 1


async def test_a_bucket_holds_so_many_and_no_more() -> None:
    app = Computing(random.Random(0))
    cache = ResponseCache(MemoryStore(100_000, None, lambda owner: 1.0), words)
    # Samples asked for, of a bucket of 3, and how many of them have to be computed.
    for number, computed in ((1, 1), (1, 0), (2, 1), (5, 3), (5, 2), (3, 0)):
        body = {"prompt": "one", "temperature": 1, "n": number, "cache_bucket": 3}
        before = app.samples
        client = Client("ann", body, [], None)
        await client.ask(RULES, cache, app)
        assert (number, app.samples - before) == (number, computed)
        assert len(set(client.texts)) == number
    held = await cache.store.stats()
    assert held.entries == 1


async def test_five_hundred_at_once_are_one_computation() -> None:
    app = Computing(random.Random(0))
    cache = ResponseCache(MemoryStore(100_000, None, lambda owner: 1.0), words)
    body = {"prompt": "one", "temperature": 0, "n": 1}
    clients = [Client("ann", body | {"stream": i % 3 == 0}, [], None) for i in range(500)]
    await asyncio.gather(*(client.ask(RULES, cache, app) for client in clients))
    assert app.serial == 1
    assert len({client.texts[0] for client in clients}) == 1
    assert Counter(client.said for client in clients) == {"MISS": 1, "HIT": 499}


def _asked(body: dict[str, Any], owner: str = "ann") -> CacheableRequest | None:
    return RULES.asked(ENDPOINTS[PATH], owner, [], body)


def test_a_key_is_of_all_that_decides_the_answer() -> None:
    source = random.Random(5)
    fields = {"prompt": "x", "temperature": 0, "max_tokens": 3, "seed": 1, "unheard_of": {"a": [1]}}
    plain = _asked(fields)
    assert plain is not None
    told_otherwise: list[dict[str, Any]] = [
        *({"stream": True}, {"rid": "r"}, {"user": "u"}, {"stream_options": {}})
    ]
    for told in told_otherwise:
        same = _asked({**fields, **told})
        assert same is not None
        assert same.key == plain.key
    shuffled = list(fields.items())
    source.shuffle(shuffled)
    assert (again := _asked(dict(shuffled))) is not None
    assert again.key == plain.key
    others = [{**fields, name: "another"} for name in fields if name != "temperature"]
    keys = {asked.key for other in others if (asked := _asked(other)) is not None}
    assert len(keys) == len(others)
    assert plain.key not in keys
    assert (theirs := _asked(fields, "ben")) is not None
    assert theirs.key != plain.key
    with pytest.raises(RequestError, match="cache_bucket: 0 is out of range"):
        _asked({**fields, "cache_bucket": 0})


@pytest.mark.parametrize(
    "body",
    [
        {"session_params": {"id": "s"}},
        {"previous_response_id": "r"},
        {"tools": [{"type": "web_search"}]},
        {"messages": [{"content": [{"image_url": {"url": "https://example.org/a.png"}}]}]},
        {"rid": ["a"]},
        {"huge": 2**70},
        {"temperature": 0.1},
        {"stream_options": {"continuous_usage_stats": True}},
    ],
    ids=lambda body: next(iter(body)),
)
def test_what_depends_on_more_than_the_request_is_not_kept(body: dict[str, Any]) -> None:
    assert _asked({"prompt": "x", "temperature": 0, "n": 1}) is not None
    assert _asked({"prompt": "x", "temperature": 0, "n": 1, **body}) is None


@pytest.mark.parametrize(
    ("path", "body", "default", "greedy"),
    [
        ("/v1/completions", {"temperature": 0}, {}, True),
        ("/v1/completions", {"temperature": 1e-9}, {}, True),
        ("/v1/completions", {}, {}, False),
        ("/v1/completions", {"top_k": 1}, {}, True),
        ("/v1/completions", {"temperature": "0"}, {}, False),
        ("/v1/chat/completions", {}, {"temperature": 0.0}, True),
        ("/v1/chat/completions", {"temperature": 1}, {"temperature": 0.0}, False),
        ("/v1/chat/completions", {}, {"top_k": 1}, True),
        ("/generate", {"temperature": 0}, {}, False),
        ("/generate", {"sampling_params": {"temperature": 0}}, {}, True),
        ("/generate", {"sampling_params": [{"temperature": 0}, {}]}, {}, False),
        ("/generate", {"sampling_params": []}, {}, False),
        ("/generate", {"sampling_params": "x"}, {}, False),
    ],
)
def test_the_temperature_is_the_one_that_it_resolves_to(
    path: str, body: dict[str, Any], default: dict[str, Any], *, greedy: bool
) -> None:
    assert is_greedy(path, body, Defaults(default, default, default, default)) is greedy


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("", CacheControl()),
        ("no-cache", CacheControl(no_cache=True)),
        ("max-age=5, No-Store", CacheControl(no_store=True, max_age=5)),
        ('max-age="7"', CacheControl(max_age=7)),
        ("max-age=-1", CacheControl()),
        ("max-age", CacheControl()),
        ("max-age=²", CacheControl()),
        ("max-age=" + "9" * 5000, CacheControl(max_age=9_999_999_999)),
        ("only-if-cached, max-stale", CacheControl()),
    ],
)
def test_directives_are_read(said: str, expected: CacheControl) -> None:
    assert CacheControl.of([(b"Cache-Control", said.encode("latin-1"))]) == expected


def test_words_joined_are_the_text() -> None:
    source = random.Random(3)
    for _ in range(500):
        text = "".join(source.choice("ab \n\tä\u3000😀") for _ in range(source.randrange(60)))
        assert "".join(words(text)) == text
