"""What a caching proxy left in a file of lines is read, but for what cannot be trusted."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sglang.srt.tenancy.response_cache.jsonl_import import Imported, read

GENERATE = {"text": "Hello", "sampling_params": {"temperature": 0.8}}
COMPLETION = {"model": "m", "prompt": "Hello", "temperature": 0}
CHAT = {"model": "m", "messages": [{"role": "user", "content": "Grüß"}], "tools": [{"a": 1}]}
GENERATED = {"text": " there", "meta_info": {"finish_reason": {"type": "stop"}}}
COMPLETED = {"id": "1", "choices": [{"index": 0, "text": " there"}], "usage": {"total_tokens": 2}}
ANSWERED = {"id": "2", "choices": [{"index": 0, "message": {"role": "assistant", "content": "a"}}]}
HASH = "9f" * 32


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "cache.jsonl"


def written(file: Path, *lines: Any) -> tuple[list[Imported], Counter[str]]:
    texts = (line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines)
    file.write_bytes(b"\n".join(texts))
    left_out: Counter[str] = Counter()
    return list(read(file, left_out)), left_out


@pytest.mark.parametrize(
    ("line", "endpoint", "request_", "answers"),
    [
        (
            {"key": HASH, "request": GENERATE, "responses": [GENERATED, GENERATED]},
            *("/generate", GENERATE, [GENERATED, GENERATED]),
        ),
        (
            {"key": HASH, "request_data": COMPLETION, "responses": [COMPLETED]},
            *("/v1/completions", COMPLETION, [COMPLETED]),
        ),
        (
            {"endpoint": "v1/chat/completions", "body": CHAT, "response": ANSWERED},
            *("/v1/chat/completions", CHAT, [ANSWERED]),
        ),
        ({"key": CHAT, "completions": [ANSWERED]}, "/v1/chat/completions", CHAT, [ANSWERED]),
        (
            {"key": json.dumps(GENERATE), "value": [GENERATED]},
            *("/generate", GENERATE, [GENERATED]),
        ),
    ],
    ids=["request", "completion", "one-answer", "key", "key-as-text"],
)
def test_a_line_with_its_whole_request_is_read(
    file: Path, line: Any, endpoint: str, request_: Any, answers: list[Any]
) -> None:
    [imported], left_out = written(file, line)
    assert (imported.endpoint, imported.request) == (endpoint, request_)
    assert [json.loads(answer) for answer in imported.answers] == answers
    assert not left_out


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"key": "9f", "requ', "no JSON"),
        (b"\xff\xfe\x00", "no JSON"),
        (b"[" * 100_000, "no JSON"),
        (b'{"request": {"text": "a", "top_p": NaN}, "responses": [{"text": "b"}]}', "no JSON"),
        (b'{"request": {"text": "a", "top_p": 1e999}, "responses": [{"text": "b"}]}', "no JSON"),
        ([1], "no object"),
        ({"key": HASH, "responses": [GENERATED]}, "no request beside the key"),
        ({"request": {"model": "m"}, "responses": [GENERATED]}, "of no endpoint"),
        (
            {"request": {"text": CHAT["messages"]}, "responses": [GENERATED]},
            "of no endpoint",
        ),
        ({"path": "/generate", "request": CHAT, "responses": [ANSWERED]}, "another endpoint"),
        ({"request": GENERATE}, "no answers"),
        ({"request": GENERATE, "responses": []}, "no answers"),
        ({"request": GENERATE, "responses": ["text"]}, "no answers"),
        ({"request": CHAT, "responses": [ANSWERED, GENERATED]}, "in another form"),
        ({"request": COMPLETION, "responses": [ANSWERED]}, "in another form"),
        ({"request": GENERATE, "responses": [COMPLETED]}, "in another form"),
        ({"request": CHAT, "responses": [{"error": {"code": 400}}]}, "in another form"),
    ],
    ids=lambda value: value if isinstance(value, str) else "line",
)
def test_any_other_is_left_out_and_counted(file: Path, line: Any, reason: str) -> None:
    good = {"request": GENERATE, "responses": [GENERATED]}
    imported, left_out = written(file, good, line, b"", good, line)
    assert len(imported) == 2
    [(counted, times)] = left_out.items()
    assert reason in counted
    assert times == 2


names = st.sampled_from(
    ["key", "request", "responses", "endpoint", "text", "messages", "prompt", "choices", "body"]
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.just(GENERATED),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=4),
    max_leaves=12,
)


@given(st.lists(st.binary(max_size=40) | json_values.map(json.dumps), max_size=6))
def test_no_line_stops_it(
    tmp_path_factory: pytest.TempPathFactory, lines: list[bytes | str]
) -> None:
    whole = [line.encode() if isinstance(line, str) else line for line in lines]
    file = tmp_path_factory.mktemp("import") / "cache.jsonl"
    imported, left_out = written(file, *whole)
    there = [line for line in b"\n".join(whole).split(b"\n") if line.strip()]
    assert len(imported) + left_out.total() == len(there)


def test_a_file_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        list(read(tmp_path / "none", Counter()))
