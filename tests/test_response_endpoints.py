"""Final objects and their streams: what one is made of is told by the other."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.final_objects import final_objects, splits

from sglang.srt.tenancy.response_cache.endpoints import sse
from sglang.srt.tenancy.response_cache.endpoints.generate import Generate
from sglang.srt.tenancy.response_cache.endpoints.registry import ENDPOINTS, endpoints

PATHS = tuple(final_objects)
WITH_USAGE = {"stream": True, "stream_options": {"include_usage": True}}
ANSWERED_IN_SAMPLES = ("/generate", "/v1/completions", "/v1/chat/completions")

widths = st.integers(1, 6)
plays = settings(max_examples=60, deadline=None)
bodies = st.sampled_from(
    (WITH_USAGE, {"stream_options": {"include_usage": True, "continuous_usage_stats": True}})
)


def replayed(path: str, value: Any, body: Any, width: int = 3) -> list[bytes]:
    return list(ENDPOINTS[path].replayed(orjson.dumps(value), body, splits(width)))


@pytest.mark.parametrize("path", PATHS)
@plays
@given(st.data(), widths, bodies)
def test_a_replayed_object_is_what_its_stream_holds(
    path: str, data: st.DataObject, width: int, body: dict[str, Any]
) -> None:
    value = data.draw(final_objects[path])
    events = replayed(path, value, body, width)
    assembled = ENDPOINTS[path].assembled(events, body)
    assert assembled is not None
    assert orjson.loads(assembled) == value
    assert ENDPOINTS[path].complete(assembled)


@plays
@given(final_objects["/generate"], widths)
def test_incremental_events_hold_the_object(value: Any, width: int) -> None:
    incremental = Generate(incremental=True)
    events = list(incremental.replayed(orjson.dumps(value), {}, splits(width)))
    assembled = incremental.assembled(events, {})
    assert assembled is not None
    assert orjson.loads(assembled) == value


@plays
@given(final_objects["/generate"], widths)
def test_events_that_later_ones_repeat_are_not_kept(value: Any, width: int) -> None:
    endpoint, kept = ENDPOINTS["/generate"], list[bytes]()
    for event in replayed("/generate", value, {}, width):
        endpoint.keep(kept, event)
    assert len(kept) == endpoint.held(orjson.dumps(value)) + len([sse.DONE])


@pytest.mark.parametrize("path", PATHS)
@plays
@given(st.data())
def test_a_stream_that_breaks_off_is_no_object(path: str, data: st.DataObject) -> None:
    events = replayed(path, data.draw(final_objects[path]), WITH_USAGE)
    for end in range(len(events)):
        assert ENDPOINTS[path].assembled(events[:end], WITH_USAGE) is None


ERRORS = (
    b'data: {"error":{"message":"no","code":500}}\n\n',
    b'event: error\ndata: {"type":"error","error":{"type":"api_error","message":"no"}}\n\n',
    b"data: half an obj\n\n",
    b"data: [1]\n\n",
)


@pytest.mark.parametrize("path", PATHS)
@plays
@given(st.data(), st.sampled_from(ERRORS))
def test_a_stream_that_fails_is_no_object(path: str, data: st.DataObject, error: bytes) -> None:
    events = replayed(path, data.draw(final_objects[path]), WITH_USAGE)
    at = data.draw(st.integers(0, len(events) - 1))
    assert ENDPOINTS[path].assembled([*events[:at], error, *events[at:]], WITH_USAGE) is None


json_objects = st.dictionaries(
    st.sampled_from(("choices", "index", "delta", "type", "response", "meta_info", "usage", "x")),
    st.recursive(
        st.none() | st.integers(0, 3) | st.text(max_size=3),
        lambda inner: (
            st.lists(inner, max_size=2)
            | st.dictionaries(
                st.sampled_from(("index", "delta", "type", "text")), inner, max_size=2
            )
        ),
        max_leaves=4,
    ),
)


@pytest.mark.parametrize("path", PATHS)
@plays
@given(st.lists(json_objects, max_size=3), st.lists(st.binary(max_size=20), max_size=2))
def test_nothing_that_a_server_sends_raises(
    path: str, objects: list[Any], noise: list[bytes]
) -> None:
    endpoint = ENDPOINTS[path]
    events = [*map(sse.written, objects), *noise, sse.DONE]
    endpoint.assembled(events, {})
    endpoint.assembled(events[:1], {})
    for event in events:
        endpoint.shown(event, {})
    for value in (*objects, None, [], 3):
        assert endpoint.complete(orjson.dumps(value)) is False
    assert endpoint.complete(b"no JSON") is False


DEEP = {"type": "x", "deep": orjson.loads('{"a":' * 400 + "1" + "}" * 400)}
MESSAGE = {"role": "assistant", "content": "a"}
CHOICE = {"index": 0, "finish_reason": "stop"}
UNREADABLE = [
    ("/generate", {"meta_info": {"finish_reason": {"type": "stop"}}, "text": "a", "output_ids": 3}),
    ("/v1/completions", {"choices": [{**CHOICE, "text": "a", "logprobs": "no"}]}),
    ("/v1/completions", {"choices": [{"text": "a", "finish_reason": "stop"}]}),
    ("/v1/chat/completions", {"choices": [CHOICE]}),
    ("/v1/chat/completions", {"choices": [{**CHOICE, "message": MESSAGE, "logprobs": [1]}]}),
    ("/v1/chat/completions", {"choices": [{**CHOICE, "message": {**MESSAGE, "tool_calls": 3}}]}),
    ("/v1/responses", {"status": "completed", "output": [{"type": "message", "content": 3}]}),
    ("/v1/messages", {"type": "message", "stop_reason": "end_turn", "content": [DEEP]}),
]


@pytest.mark.parametrize(("path", "value"), UNREADABLE)
def test_what_no_stream_can_say_is_not_kept(path: str, value: Any) -> None:
    assert not ENDPOINTS[path].complete(json.dumps(value).encode())


@plays
@given(st.lists(st.binary(max_size=9).map(lambda data: data.hex()), max_size=5), st.data())
def test_events_are_cut_wherever_bytes_arrive(texts: list[str], data: st.DataObject) -> None:
    blanks = data.draw(st.lists(st.sampled_from((b"\n\n", b"\r\n\r\n")), min_size=5, max_size=5))
    events = [b"data: " + text.encode() + blank for text, blank in zip(texts, blanks, strict=False)]
    stream, splitter = b"".join(events) + b"data: rest", sse.Splitter()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=6)))
    parts = [stream[b:e] for b, e in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    assert [event for part in parts for event in splitter.feed(part)] == events
    assert splitter.rest == b"data: rest"
    assert [sse.read(event)[1].decode() for event in events] == texts


# ---- samples


def _samples(path: str, answer: bytes) -> list[Any]:
    value = orjson.loads(answer)
    if path == "/generate":
        return value if isinstance(value, list) else [value]
    return [{**choice, "index": None} for choice in value["choices"]]


@pytest.mark.parametrize("path", ANSWERED_IN_SAMPLES)
@plays
@given(st.data())
def test_samples_are_picked_of_several_answers(path: str, data: st.DataObject) -> None:
    endpoint = ENDPOINTS[path]
    values = data.draw(st.lists(final_objects[path], min_size=1, max_size=3))
    answers = [orjson.dumps(value) for value in values]
    held = [_samples(path, answer) for answer in answers]
    assert [endpoint.held(answer) for answer in answers] == [len(each) for each in held]
    numbers = data.draw(
        st.lists(st.integers(0, sum(map(len, held)) - 1), unique=True, min_size=1), label="numbers"
    )
    picked = endpoint.picked(answers, numbers)
    everything = [sample for each in held for sample in each]
    assert _samples(path, picked) == [everything[number] for number in numbers]
    assert endpoint.complete(picked)
    if path != "/generate":
        _check_choices(orjson.loads(picked), values, numbers)


def _check_choices(picked: dict[str, Any], values: list[Any], numbers: Sequence[int]) -> None:
    assert [choice["index"] for choice in picked["choices"]] == list(range(len(numbers)))
    of = [at for at, value in enumerate(values) for _ in value["choices"]]
    used = {of[number] for number in numbers}
    for name in ("prompt_tokens", "completion_tokens"):
        assert picked["usage"][name] == sum(values[at]["usage"][name] for at in used)
    cached = [values[at]["usage"]["prompt_tokens_details"] for at in used]
    expected = 3 * sum(each is not None for each in cached)
    assert picked["usage"]["prompt_tokens_details"] == (
        {"cached_tokens": expected} if expected else None
    )


@pytest.mark.parametrize(
    ("path", "body", "expected"),
    [
        ("/generate", {"text": "a"}, 1),
        ("/generate", {"text": "a", "sampling_params": {"n": 3}}, 3),
        ("/generate", {"input_ids": [1, 2], "sampling_params": {"n": None}}, 1),
        ("/generate", {"text": ["a"]}, None),
        ("/generate", {"input_ids": [[1, 2]]}, None),
        ("/generate", {"input_embeds": [[0.5, 1]]}, 1),
        ("/generate", {"input_embeds": [[[0.5, 1]]]}, None),
        ("/generate", {"text": "a", "sampling_params": [{"n": 2}]}, None),
        ("/generate", {"text": "a", "sampling_params": {"n": "2"}}, None),
        ("/v1/completions", {"prompt": "a"}, 1),
        ("/v1/completions", {"prompt": [1, 2], "n": 2}, 2),
        ("/v1/completions", {"prompt": ["a"], "n": 2}, 2),
        ("/v1/completions", {"prompt": [[1, 2]], "n": 2}, 2),
        ("/v1/completions", {"prompt": ["a", "b"]}, None),
        ("/v1/completions", {"prompt": [[1], [2]]}, None),
        ("/v1/completions", {"prompt": []}, None),
        ("/v1/completions", {}, None),
        ("/v1/chat/completions", {"n": 4}, 4),
        ("/v1/chat/completions", {"n": 0}, None),
        ("/v1/chat/completions", {"n": True}, None),
        ("/v1/responses", {"n": 4}, 1),
        ("/v1/messages", {}, 1),
    ],
)
def test_how_many_samples_a_request_asks_for(
    path: str, body: dict[str, Any], expected: int | None
) -> None:
    endpoint = ENDPOINTS[path]
    assert endpoint.samples(body) == expected
    if expected is not None and path in ANSWERED_IN_SAMPLES:
        assert endpoint.samples(endpoint.with_samples(body, 7)) == 7


# ---- what is kept, and under which id


@pytest.mark.parametrize("path", PATHS)
@plays
@given(st.data(), st.text(max_size=8))
def test_a_request_is_answered_with_its_own_id(path: str, data: st.DataObject, rid: str) -> None:
    value = data.draw(final_objects[path])
    named = orjson.loads(ENDPOINTS[path].named(orjson.dumps(value), rid))
    if path != "/generate":
        assert named == value | {"id": rid}
        return
    samples = named if isinstance(named, list) else [named]
    ids = [f"{rid}_{number}" for number in range(len(samples))]
    assert [each["meta_info"]["id"] for each in samples] == (
        ids if isinstance(named, list) else [rid]
    )


UNFINISHED = [
    ("/generate", {"text": "", "meta_info": {"finish_reason": {"type": "abort"}}}),
    ("/generate", {"text": "", "meta_info": {"finish_reason": None}}),
    ("/generate", [{"text": "", "meta_info": {"finish_reason": {"type": "abort"}}}]),
    ("/generate", []),
    ("/v1/completions", {"choices": [{"index": 0, "text": "", "finish_reason": "abort"}]}),
    ("/v1/completions", {"choices": [{"index": 0, "text": "", "finish_reason": None}]}),
    ("/v1/completions", {"choices": []}),
    ("/v1/chat/completions", {"error": {}, "choices": [{"finish_reason": "stop"}]}),
    ("/v1/responses", {"status": "queued", "output": []}),
    ("/v1/responses", {"status": "failed", "output": []}),
    ("/v1/responses", {"status": "incomplete", "output": [], "incomplete_details": None}),
    ("/v1/responses", {"status": "completed", "output": [], "error": {"code": "x"}}),
    ("/v1/messages", {"type": "error", "error": {}}),
    ("/v1/messages", {"type": "message", "content": [], "stop_reason": None}),
]


@pytest.mark.parametrize(("path", "value"), UNFINISHED)
def test_what_did_not_finish_is_not_kept(path: str, value: Any) -> None:
    assert not ENDPOINTS[path].complete(orjson.dumps(value))


def test_a_response_as_long_as_it_may_be_is_kept() -> None:
    cut = {"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}}
    value = cut | {"output": [], "id": "resp_1"}
    assert ENDPOINTS["/v1/responses"].complete(orjson.dumps(value))
    events = replayed("/v1/responses", value, {})
    assert orjson.loads(sse.read(events[-1])[1])["type"] == "response.incomplete"


@pytest.mark.parametrize("path", ["/v1/completions", "/v1/chat/completions"])
@plays
@given(st.data())
def test_usage_is_shown_to_whoever_asked(path: str, data: st.DataObject) -> None:
    endpoint = ENDPOINTS[path]
    value = data.draw(final_objects[path])
    asked = endpoint.asked_stream({"stream_options": {"continuous_usage_stats": False}})
    assert asked["stream"] is True
    assert asked["stream_options"] == {"include_usage": True, "continuous_usage_stats": False}
    with_usage = replayed(path, value, asked)
    assert [endpoint.shown(event, asked) for event in with_usage] == with_usage
    hidden = [endpoint.shown(event, {"stream": True}) for event in with_usage]
    assert [event for event in hidden if event is not None] == replayed(path, value, {})


@pytest.mark.parametrize("field", ["return_token_ids", "return_prompt_token_ids"])
def test_chats_whose_streams_lack_what_was_asked_for_are_not_kept(field: str) -> None:
    endpoint = ENDPOINTS["/v1/chat/completions"]
    choice = {"index": 0, "message": {"content": "a"}, "finish_reason": "stop"}
    events = replayed(endpoint.path, {"id": "1", "choices": [choice]}, {})
    assert endpoint.assembled(events, {}) is not None
    assert endpoint.assembled(events, {field: True}) is None


def test_what_opens_a_thought_is_told_without_text() -> None:
    tokens = ["<", "th", ">", "th", "in", "</th", ">", "a"]
    entries = [{"token": token, "logprob": -1.0, "top_logprobs": []} for token in tokens]
    message = {"role": "assistant", "content": "a", "reasoning_content": "thin"}
    choice = {"index": 0, "message": message, "logprobs": {"content": entries}}
    value = {"id": "1", "choices": [{**choice, "finish_reason": "length"}]}
    chunks, _ = sse.objects(replayed("/v1/chat/completions", value, {}))
    shown = [c for each in chunks for c in each["choices"] if c["logprobs"]]
    assert [c["delta"]["reasoning_content"] for c in shown] == (
        [None, None, None, "th", "in", None, None, None]
    )
    assert [c["delta"].get("content") for c in shown] == [None] * 7 + ["a"]


def test_each_chunk_holds_a_token_and_its_logprob() -> None:
    tokens = ["Gr", "\N{REPLACEMENT CHARACTER}", "\N{REPLACEMENT CHARACTER}", "n", " ist"]
    entries = [{"token": token, "logprob": -1.0, "top_logprobs": []} for token in tokens]
    message = {"role": "assistant", "content": "Grün ist", "reasoning_content": None}
    choice = {"index": 0, "message": message, "logprobs": {"content": entries}}
    value = {"id": "1", "choices": [{**choice, "finish_reason": "length"}]}
    chunks, _ = sse.objects(replayed("/v1/chat/completions", value, {}))
    shown = [(c["delta"].get("content"), c["logprobs"]) for each in chunks for c in each["choices"]]
    of = [(text, len(logprobs["content"])) for text, logprobs in shown if logprobs]
    assert of == [("Gr", 1), ("ün", 3), (" ist", 1)]


@pytest.mark.parametrize(
    ("tokens", "tops", "kept"), [(2, (1, 2), True), (2, (1, 1), False), (3, (1, 2), False)]
)
def test_chats_whose_streams_lose_logprobs_are_not_kept(
    tokens: int, tops: tuple[int, int], kept: bool
) -> None:
    entries = [{"token": "a", "top_logprobs": [{"token": "b", "logprob": -top}]} for top in tops]
    choice = {"index": 0, "delta": {"content": "aa"}, "logprobs": {"content": entries}}
    said = {"id": "1", "choices": [choice]}
    last = {"id": "1", "choices": [{**choice, "logprobs": None, "finish_reason": "length"}]}
    usage = {"id": "1", "choices": [], "usage": {"completion_tokens": 2 * tokens}}
    events = [*map(sse.written, (said, said, last, usage)), sse.DONE]
    assembled = ENDPOINTS["/v1/chat/completions"].assembled(events, {"logprobs": True})
    assert (assembled is not None) == kept


CALL = {"function": {"name": "f", "arguments": '{"a":'}, "id": "1", "index": 0, "type": "function"}
CUT_OFF = [
    (
        "/v1/chat/completions",
        {"choices": [{**CHOICE, "finish_reason": "length"} | {"message": {"tool_calls": [CALL]}}]},
    ),
    (
        "/v1/responses",
        {"status": "completed", "output": [{"type": "function_call", "arguments": '{"a":'}]},
    ),
    (
        "/v1/messages",
        {"content": [{"type": "tool_use", "input": {}}], "stop_reason": "max_tokens"},
    ),
]


@pytest.mark.parametrize(("path", "value"), CUT_OFF)
def test_streams_of_calls_that_are_cut_off_are_not_kept(path: str, value: Any) -> None:
    assert ENDPOINTS[path].assembled(replayed(path, value, WITH_USAGE), WITH_USAGE) is None


def test_whole_answers_of_sglang_count_in_the_words_of_chats() -> None:
    said = {"prompt_tokens": 9, "total_tokens": 12, "completion_tokens": 3, "reasoning_tokens": 2}
    usage = {**said, "prompt_tokens_details": {"cached_tokens": 8}}
    value = {"id": "1", "status": "completed", "output": [], "usage": usage}
    events = replayed("/v1/responses", value, {})
    told = orjson.loads(sse.read(events[-1])[1])["response"]["usage"]
    assert (told["input_tokens"], told["output_tokens"]) == (9, 3)
    whole = endpoints(sglang=True)["/v1/responses"].assembled(events, {})
    assert whole is not None
    assert orjson.loads(whole) == value


def test_tools_are_those_of_the_request() -> None:
    tools = [{"type": "function", "name": "look"}]
    value = {"id": "1", "status": "completed", "output": [], "tools": [], "created_at": 3.0}
    events = replayed("/v1/responses", value, {})
    whole = ENDPOINTS["/v1/responses"].assembled(events, {"tools": tools})
    assert whole is not None
    assert orjson.loads(whole) == value | {"tools": tools}


@pytest.mark.alone
def test_a_thousand_tokens_are_replayed_in_milliseconds() -> None:
    text = "".join(chr(97 + number % 26) * 3 + " " for number in range(1000))
    usage = {"prompt_tokens": 9, "completion_tokens": 1000}
    choice = {"index": 0, "finish_reason": "length", "logprobs": None, "matched_stop": None}
    message = {"role": "assistant", "content": text, "reasoning_content": None}
    part = {"type": "output_text", "text": text, "annotations": []}
    meta = {"id": "1", "finish_reason": {"type": "length"}, "completion_tokens": 1000}
    values: dict[str, Any] = {
        "/generate": {"text": text, "output_ids": list(range(1000)), "meta_info": meta},
        "/v1/completions": {"id": "1", "choices": [choice | {"text": text}], "usage": usage},
        "/v1/chat/completions": {"id": "1", "choices": [choice | {"message": message}]},
        "/v1/responses": {
            "status": "completed",
            "output": [{"id": "1", "type": "message", "content": [part]}],
        },
        "/v1/messages": {"id": "1", "content": [{"type": "text", "text": text}]},
    }
    for path, endpoint in endpoints().items():
        took = []
        for _ in range(5):
            begun = time.perf_counter()
            assert len(replayed(path, values[path], {}, 4)) >= 1000
            took.append(time.perf_counter() - begun)
        assert min(took) < 0.02, f"{endpoint.path}: {min(took):.4f} s"
