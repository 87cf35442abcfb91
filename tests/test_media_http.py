"""A model that looks at pictures, and users who name some: what is fetched, and what is not."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from support.media_server import MediaServer, make_png, serving
from support.patience import until
from support.server import Server
from support.vision import FLAGS, PICTURE, make_vision_model

from sglang.srt.tenancy.media.remote import FAILURE_STEP

pytestmark = pytest.mark.server

ALICE, LIMITED, ADMIN = "sk-alice", "sk-limited", "sk-admin"
CONFIG = f"""
[users.alice]
keys = ["{ALICE}"]
[users.limited]
keys = ["{LIMITED}"]
max_running = 2
max_queued = 0
"""
MOST_BYTES, SECONDS, MOST_PIXELS = 200_000, 3, 10_000
PNG, OTHER = make_png(56, 56, seed=1), make_png(56, 56, seed=2)
SECRET = "a-name-that-no-log-shows"


@pytest.fixture(scope="module")
def pictures() -> Iterator[MediaServer]:
    """Serve pictures at an address that the server's operator has listed, and at one that is not.

    In a thread: the tests wait for the server's answers.
    """
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    def run(coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, loop).result(30)

    stack = contextlib.AsyncExitStack()
    server = run(stack.enter_async_context(serving(hosts=("127.0.0.1", "127.0.0.1"))))
    server.says(f"/{SECRET}.png", body=PNG, Content_Type="image/png")
    server.says("/other.png", body=OTHER, Content_Type="image/png")
    server.says("/text", body=b"no picture")
    server.says("/none", 404)
    server.says("/away", 302, Location=f"http://127.0.0.1:{server.ports[1]}/other.png")
    server.says("/file", 302, Location="file:///etc/passwd")
    server.streams("/endless", b"x" * 65_536, 0)
    server.streams("/slow", b"x", 0.2)
    yield server
    run(stack.aclose())
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


@pytest.fixture(scope="module")
def server(pictures: MediaServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    model = tmp_path_factory.mktemp("models") / "vision"
    make_vision_model(model)
    config = model / "tenants.toml"
    config.write_text(CONFIG)
    with Server(
        model,
        *("--enable-tenant-cache", "--enable-cache-report", "--skip-server-warmup", *FLAGS),
        *("--tenant-config", str(config), "--admin-api-key", ADMIN),
        *("--tenant-media-host", f"127.0.0.1:{pictures.ports[0]}"),
        *("--tenant-max-media-bytes", str(MOST_BYTES), "--tenant-media-timeout", str(SECONDS)),
        *("--tenant-max-media-pixels", str(MOST_PIXELS)),
    ) as server:
        yield server


@pytest.fixture(autouse=True)
def asked(pictures: MediaServer) -> list[str]:
    pictures.asked.clear()
    return pictures.asked


def data_uri(picture: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(picture).decode()}"


def _chat(picture: str) -> dict[str, Any]:
    content = [{"type": "text", "text": "hi"}, {"type": "image_url", "image_url": {"url": picture}}]
    return {"messages": [{"role": "user", "content": content}], "max_tokens": 6, "logprobs": True}


def _messages(picture: str) -> dict[str, Any]:
    source = {"type": "url", "url": picture}
    if ";base64," in picture:
        media_type, _, data = picture[len("data:") :].partition(";base64,")
        source = {"type": "base64", "media_type": media_type, "data": data}
    content = [{"type": "text", "text": "hi"}, {"type": "image", "source": source}]
    return {"messages": [{"role": "user", "content": content}], "max_tokens": 6}


def _responses(picture: str) -> dict[str, Any]:
    content = [
        {"type": "input_text", "text": "hi"},
        {"type": "input_image", "image_url": picture},
    ]
    return {"input": [{"role": "user", "content": content}], "max_output_tokens": 6}


def _generate(picture: Any) -> dict[str, Any]:
    sampling = {"max_new_tokens": 6, "temperature": 0}
    return {"text": f"hi{PICTURE}", "image_data": picture, "sampling_params": sampling}


@dataclass(frozen=True)
class Endpoint:
    """``body``: a request about a picture. ``answer``: what its reply says of it."""

    path: str
    body: Callable[[str], dict[str, Any]]
    answer: Callable[[Any], Any]


ENDPOINTS = {
    "generate": Endpoint("/generate", _generate, lambda reply: reply["output_ids"]),
    "vertex": Endpoint(
        "/vertex_generate",
        lambda picture: {
            "instances": [{"text": f"hi{PICTURE}", "image_data": picture}],
            "parameters": {"sampling_params": {"max_new_tokens": 6, "temperature": 0}},
        },
        lambda reply: reply[0]["output_ids"],
    ),
    "chat": Endpoint(
        "/v1/chat/completions",
        _chat,
        lambda reply: [one["bytes"] for one in reply["choices"][0]["logprobs"]["content"]],
    ),
    "messages": Endpoint("/v1/messages", _messages, lambda reply: reply["content"]),
    "responses": Endpoint(
        "/v1/responses", _responses, lambda reply: reply["output"][-1]["content"][0]["text"]
    ),
}
everywhere = pytest.mark.parametrize("endpoint", ENDPOINTS.values(), ids=ENDPOINTS)


def post(
    server: Server, endpoint: Endpoint, picture: Any, key: str = ALICE, **fields: Any
) -> httpx.Response:
    body = {"model": "m", "temperature": 0, **endpoint.body(picture), **fields}
    return server.http.post(
        endpoint.path, json=body, headers={"Authorization": f"Bearer {key}"}, timeout=60
    )


def answer(server: Server, endpoint: Endpoint, picture: Any, **fields: Any) -> Any:
    response = post(server, endpoint, picture, **fields)
    assert response.status_code == 200, response.text
    return endpoint.answer(response.json())


@everywhere
def test_a_picture_is_the_same_however_it_comes(
    server: Server, pictures: MediaServer, endpoint: Endpoint
) -> None:
    sent = answer(server, endpoint, data_uri(PNG))
    assert pictures.asked == []
    assert answer(server, endpoint, pictures.url(f"/{SECRET}.png")) == sent
    assert len(pictures.asked) == 1  # by us, and by no other
    assert "sglang-tenant-media" in pictures.asked[0]
    other = answer(server, endpoint, data_uri(OTHER))
    assert answer(server, endpoint, pictures.url("/other.png")) == other != sent
    assert SECRET not in server.log


def test_base64_alone_is_a_picture(server: Server) -> None:
    generate = ENDPOINTS["generate"]
    alone = base64.b64encode(PNG).decode()
    for given in (alone, [alone]):
        assert answer(server, generate, given) == answer(server, generate, data_uri(PNG))


def test_one_address_in_many_places_is_asked_once(server: Server, pictures: MediaServer) -> None:
    url = pictures.url(f"/{SECRET}.png")
    body = {**_generate([[url]] * 3), "text": [f"{n}{PICTURE}" for n in range(3)]}
    body["sampling_params"] = {"max_new_tokens": 2, "n": 2}
    headers = {"Authorization": f"Bearer {ALICE}"}
    response = server.http.post("/generate", json=body, headers=headers)
    assert response.status_code == 200, response.text
    assert len(response.json()) == 6
    assert len(pictures.asked) == 1


FILES = ["{file}", "file://{file}", "FILE:{file}", "file://localhost{file}", "/etc/passwd", "x.png"]
ELSEWHERE = [
    *("ftp://127.0.0.1/x.png", "s3://bucket/x.png", "//127.0.0.1/x.png", "video:/etc/passwd"),
    *("http://user:pw@127.0.0.1/", "data:image/png,x", "data:image/png;base64,?"),
]


@everywhere
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_half_a_picture_is_refused(server: Server, endpoint: Endpoint, stream: bool) -> None:
    half = data_uri(PNG[:-100])
    response = post(server, endpoint, half, stream=stream)
    assert response.status_code == 400, response.text
    assert "image_data: cannot be read" in response.text
    assert half[-100:-50] not in response.text + server.log
    assert half[30:60] not in response.text + server.log


@everywhere
@pytest.mark.parametrize("key", [ALICE, ADMIN])
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_files_are_not_read(
    server: Server, tmp_path: Path, endpoint: Endpoint, key: str, stream: bool
) -> None:
    """Not for an operator either; and a picture would be one that the model could look at."""
    picture = tmp_path / "picture.png"
    picture.write_bytes(PNG)
    if stream and endpoint.path == "/vertex_generate":
        return
    for named in (*FILES, *ELSEWHERE):
        given = named.format(file=picture)
        response = post(server, endpoint, given, key, **({"stream": True} if stream else {}))
        assert response.status_code == 400, (named, response.text)
        assert response.json()["error"]["param"] == "image_data", response.text
        assert "data:" in response.text


NOT_FETCHED = {
    "not listed": "http://127.0.0.1:{closed}/other.png",
    "another spelling": "http://2130706433:{closed}/other.png",
    "redirected there": "http://127.0.0.1:{open}/away",
    "redirected to a file": "http://127.0.0.1:{open}/file",
    "metadata": "http://169.254.169.254/latest/meta-data/",
    "not found": "http://127.0.0.1:{open}/none",
    "endless": "http://127.0.0.1:{open}/endless",
    "no such name": "http://nothing.invalid/",
}


def test_what_is_not_fetched_is_one_answer(server: Server, pictures: MediaServer) -> None:
    told = set()
    listed, closed = pictures.ports
    for number, (why, url) in enumerate(NOT_FETCHED.items()):
        endpoint = list(ENDPOINTS.values())[number % len(ENDPOINTS)]
        began = time.monotonic()
        key = (ALICE, ADMIN)[number % 2]
        response = post(server, endpoint, url.format(open=listed, closed=closed), key)
        assert response.status_code == 400, (why, response.text)
        assert time.monotonic() - began > 0.9 * FAILURE_STEP, why
        told.add(response.json()["error"]["message"])
    (message,) = told
    assert message.startswith("image_data: what it names could not be fetched")
    assert str(MOST_BYTES) in message
    assert not [head for head in pictures.asked if f":{closed}" in head]


def test_slow_ones_end(server: Server, pictures: MediaServer) -> None:
    response = post(server, ENDPOINTS["chat"], pictures.url("/slow"), stream=True)
    assert response.status_code == 400
    assert response.json()["error"]["param"] == "image_data"
    until(lambda: pictures.open == 0)


@pytest.mark.parametrize("places", [0, 2, 4, 5])
def test_prompts_have_places_for_their_pictures(server: Server, places: int) -> None:
    """The tiny picture takes four. Else it is an error, and no request that waits for ever."""
    ids = [262, *[264] * places, 263]  # of the picture's beginning, places and end
    for sampling in ({"max_new_tokens": 2}, {"max_new_tokens": 2, "n": 2}):
        body = {"input_ids": ids, "image_data": data_uri(PNG), "sampling_params": sampling}
        headers = {"Authorization": f"Bearer {ALICE}"}
        response = server.http.post("/generate", json=body, headers=headers, timeout=30)
        assert response.status_code in (200, 400), response.text


def test_what_is_no_picture_is_refused(server: Server, pictures: MediaServer) -> None:
    for given in (
        pictures.url("/text"),
        data_uri(b"no picture"),
        data_uri(make_png(1, MOST_PIXELS + 1)),
    ):
        response = post(server, ENDPOINTS["chat"], given)
        assert response.status_code == 400, response.text
        assert response.json()["error"]["param"] == "image_data"


def test_who_waits_for_a_picture_has_one_running(server: Server, pictures: MediaServer) -> None:
    generate = ENDPOINTS["generate"]
    for _ in range(3):  # more than may run: each gives its place back
        assert post(server, generate, pictures.url("/none"), LIMITED).status_code == 400
    body = {"model": "m", **_generate(pictures.url("/slow"))}
    headers = {"Authorization": f"Bearer {LIMITED}"}
    with contextlib.ExitStack() as stack:
        for _ in range(2):
            client = stack.enter_context(httpx.Client(timeout=1.0))
            with pytest.raises(httpx.ReadTimeout):
                client.post(f"{server.url}/generate", json=body, headers=headers)
    until(lambda: pictures.open == 0)  # they hung up: nothing is fetched for them any more
    assert post(server, generate, data_uri(PNG), LIMITED).status_code == 200


@pytest.mark.parametrize(
    "fields",
    [
        {"image_data": {"format": "precomputed_embedding", "feature": [[0.5]]}},
        {"image_data": [{"format": "processor_output", "pixel_values": [[0.5]]}]},
        {"mm_hashes": ["1f"]},
    ],
    ids=["embedding", "output", "hashes"],
)
def test_nobody_passes_one_picture_for_another(server: Server, fields: dict[str, Any]) -> None:
    body = {**_generate(data_uri(PNG)), **fields}
    headers = {"Authorization": f"Bearer {ALICE}"}
    response = server.http.post("/generate", json=body, headers=headers)
    assert response.status_code == 403, response.text
    assert response.json()["error"]["param"] == next(iter(fields))
