"""Send a request's bytes otherwise than they should be: body, framing, headers, path."""

from __future__ import annotations

import dataclasses
import gzip
import json
import random
from collections.abc import Callable

from cases import BROKEN, WHOLE, Case
from endpoints import UPLOAD
from values import STRINGS

Change = Callable[[str, random.Random], str]


def _cut(text: str, random: random.Random) -> str:
    return text[: random.randrange(len(text) + 1)]


def _flip(text: str, random: random.Random) -> str:
    at = random.randrange(len(text) + 1)
    return text[:at] + chr(random.randrange(256)) + text[at + 1 :]


def _names_twice(text: str, random: random.Random) -> str:
    return text.replace("{", "{" + ", ".join(_members(text, random)) + ", ", 1)


def _members(text: str, random: random.Random) -> list[str]:
    names = list(json.loads(text) or ["x"]) if text.startswith("{") else ["x"]
    return [f"{json.dumps(random.choice(names))}: {random.randrange(9)}" for _ in range(2)]


def _nested(text: str, random: random.Random) -> str:
    deep = random.choice((60, 70, 200, 1000, 100_000))
    opened, closed = random.choice((("[", "]"), ('{"a":', "}"), ('[{"text":', "}]")))
    value = opened * deep + "1" + (closed * deep if random.random() < 0.7 else "")
    return random.choice((value, '{"text": ' + value + "}", '{"messages": ' + value + "}"))


def _as(encoding: str) -> Change:
    return lambda text, _: text.encode(encoding).decode("latin-1")


def _zipped(text: str, random: random.Random) -> str:
    packed = gzip.compress(text.encode() * random.choice((1, 1, 10_000)), mtime=0)
    return packed.decode("latin-1")


# Ways to spoil the text of a JSON body; what comes out is bytes, as latin-1.
_BODIES: tuple[Change, ...] = (
    _cut,
    _flip,
    _names_twice,
    _nested,
    _as("utf-16"),
    _as("utf-8-sig"),
    _as("utf-32-le"),
    _zipped,
    lambda text, _: text + "}",
    lambda text, _: text + " " * 100_000 + "x",
    lambda text, _: "[" + text + "]",
    lambda text, _: json.dumps(text),
    lambda text, _: text.replace('"', "'"),
    lambda text, _: "\x00" + text,
    lambda text, _: text.replace("Hello", "\xff\xfe\xc3"),
    lambda text, _: text.replace("Hello", "\\ud800"),
    lambda text, _: text.replace("Hello", "\\u0000"),
    lambda text, _: text.replace("2", "1" * 5000),
    lambda text, _: text.replace("2", "2" + "e5" * 3),
    lambda text, random: random.choice(("", "null", "1", '"x"', "[]", "{}", "nan", "-", "a=b&c")),
)
_TYPES = (
    *("", "text/plain", "application/json; charset=utf-16", "application/JSON", "application/xml"),
    *("application/x-www-form-urlencoded", "multipart/form-data", "multipart/form-data; boundary="),
    *(
        "multipart/form-data; boundary=x",
        "application/vnd.api+json",
        "json",
        "application/json," * 9,
    ),
)
_HEADERS: tuple[tuple[str, str], ...] = (
    *(("Cache-Control", said) for said in ("max-age=60", "no-cache", "no-store", "max-age=-1,x")),
    ("Content-Encoding", "gzip"),
    ("x-body-compressed", "zstd"),
    ("Transfer-Encoding", "gzip, chunked"),
    ("Expect", "something"),
    ("Accept", "text/event-stream"),
    ("Accept-Encoding", "br;q=x"),
    ("Connection", "Upgrade"),
    ("Upgrade", "h2c"),
    ("X-Long", "x" * 70_000),
    ("X-Long", "x" * 30_000),
    ("X-Odd", "\u00ff\u0100\U0001f600"),
    ("X-Empty", " "),
    ("Bad Name", "x"),
    ("Cookie", "a=b; " * 500),
    ("Host", ""),
    ("Host", "a b"),
    ("X-Request-Id", "alices"),
    ("traceparent", "00-x"),
    ("X-Data-Parallel-Rank", "-1"),
    ("x-override-routed-dp-rank", "99999999999999999999"),
    ("X-SMG-Routing-Key", "x" * 5000),
    ("x-api-key", "sk-nobody"),
    ("anthropic-version", "\t"),
    ("Authorization", "Basic \u00ff"),
    ("Authorization", "Bearer"),
    ("Authorization", "Bearer sk-mallory, Bearer sk-alice"),
)
_METHODS = (
    "GET",
    "PUT",
    "PATCH",
    "DELETE",
    "HEAD",
    "OPTIONS",
    "TRACE",
    "post",
    "CONNECT",
    "P" * 99,
)
_PATHS: tuple[Callable[[str], str], ...] = (
    lambda path: path + "/",
    lambda path: "/" + path,
    lambda path: path + "?user_id=alice",
    lambda path: path + "?user_id=x&user_id=%ff%00&user=",
    lambda path: path + "?" + "a=b&" * 5000,
    lambda path: path + "?%",
    lambda path: path + "#x",
    lambda path: path + "%2f..%2fhealth",
    lambda path: path + "\u00ff",
    lambda path: path + "\x7f",
    lambda path: path.replace("e", "%65", 1),
    lambda path: path.upper(),
    lambda path: "/v1/../" + path,
    lambda path: "http://127.0.0.1" + path,
    lambda path: "*",
    lambda path: path + "a" * 9000,
)


def respelled(case: Case, random: random.Random) -> Case:
    """Spoil a case's bytes in one or two ways."""
    for _ in range(random.choice((1, 1, 2))):
        case = random.choice(_WAYS)(case, random)
    return case


def _other_body(case: Case, random: random.Random) -> Case:
    if case.body is None:
        return case
    return dataclasses.replace(
        case, raw=random.choice(_BODIES)(json.dumps(case.body), random), body=None
    )


def _other_type(case: Case, random: random.Random) -> Case:
    return _with_header(case, ("Content-Type", random.choice(_TYPES)))


def _other_header(case: Case, random: random.Random) -> Case:
    return _with_header(case, random.choice(_HEADERS))


def _with_header(case: Case, header: tuple[str, str]) -> Case:
    return dataclasses.replace(case, headers=(*case.headers, header))


def _other_method(case: Case, random: random.Random) -> Case:
    return dataclasses.replace(case, method=random.choice(_METHODS))


def _other_path(case: Case, random: random.Random) -> Case:
    return dataclasses.replace(case, path=random.choice(_PATHS)(case.path))


def _other_framing(case: Case, random: random.Random) -> Case:
    return dataclasses.replace(case, framing=random.choice(WHOLE + BROKEN))


_WAYS = (
    *(_other_body, _other_body, _other_body, _other_framing, _other_framing),
    *(_other_type, _other_header, _other_method, _other_path),
)


def upload(random: random.Random) -> Case:
    """Draw a form with a file, and some of its parts not as they should be."""
    boundary = random.choice(("x", "x", "x" * 70, "'", ""))
    fields = {
        "model": "demo",
        "language": "en",
        "response_format": random.choice(("json", "text", "verbose_json", "srt")),
        "temperature": random.choice(("0", "0.5", "nan", "1e999", "x")),
        "stream": random.choice(("false", "true", "2")),
        "timestamp_granularities[]": random.choice(("word", "segment", "x")),
    }
    parts = [
        f'Content-Disposition: form-data; name="{name}"\r\n\r\n{value}'
        for name, value in fields.items()
        if random.random() < 0.4
    ]
    content = random.choice(("", "RIFF" + "\x00" * 40, "\xff" * 5000, "x" * 300_000))
    filename = random.choice(("a.wav", "", "../../x", "\x00", "a" * 3000, 'a"b'))
    parts += [
        f'Content-Disposition: form-data; name="file"; filename="{filename}"\r\n\r\n{content}'
    ]
    parts *= random.choice((1, 1, 1, 2, 1100))
    if random.random() < 0.2:
        text = random.choice(STRINGS).encode("utf-8", "surrogatepass").decode("latin-1")
        parts.insert(0, text)
    if len(content) > 5000:
        parts = parts[:40]
    body = "".join(f"--{boundary}\r\n{part}\r\n" for part in parts)
    body += f"--{boundary}--\r\n" if random.random() < 0.8 else ""
    kind = f"multipart/form-data; boundary={boundary}"
    return Case(UPLOAD, raw=body, headers=(("Content-Type", kind),))
