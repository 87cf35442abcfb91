"""How a request may give media, and what of it upstream sees: data URIs and bytes."""

from __future__ import annotations

import base64
import io
import zlib
from typing import Any

import pytest
from PIL import Image
from support.media_server import make_png

from sglang.srt.managers.io_struct import EmbeddingReqInput, GenerateReqInput
from sglang.srt.tenancy.errors import RequestError
from sglang.srt.tenancy.media.fetch import Fetched
from sglang.srt.tenancy.media.references import RequestMedia
from sglang.srt.utils import ImageData, VideoData

URL = "https://example.com/a"
TEXT = base64.b64encode(b"a picture").decode()
URI = f"data:image/png;base64,{TEXT}"
MOST = 1000


def media_of(
    request: Any, *, remote: bool = True, operator: bool = False, most: int = MOST
) -> RequestMedia:
    return RequestMedia(request, most, remote=remote, operator=operator)


def normalized(**fields: Any) -> GenerateReqInput:
    request = GenerateReqInput(**{"text": "x", **fields})
    request.normalize_batch_and_arguments()
    return request


READ = [
    (TEXT, URI),
    (URI, URI),
    (f"DATA:IMAGE/JPEG;charset=x;BASE64,{TEXT}", URI),
    (f"data:image/jpeg;base64,{TEXT}", f"data:image/jpeg;base64,{TEXT}"),
    (f"data:;base64,{TEXT}", URI),
    (f"data:text/html;base64,{TEXT}", URI),
    (f"data:image/../../x;base64,{TEXT}", URI),
    ("/9j/4AAQSkZJ", "data:image/png;base64,/9j/4AAQSkZJ"),  # how a JPEG begins
    (b"bytes", b"bytes"),
    (None, None),
    ([], []),
    ([TEXT, [TEXT, None]], [URI, [URI, None]]),
    ({"url": TEXT, "max_dynamic_patch": 3}, {"url": URI, "max_dynamic_patch": 3}),
    ({"url": TEXT, "detail": "low"}, {"url": URI, "detail": "low"}),
    (ImageData(url=TEXT, detail="low"), ImageData(url=URI, detail="low")),
    ([VideoData(url=TEXT)], [VideoData(url=URI)]),
    # Characters of a path, and base64 of something: it is not opened.
    ("/etc/hos", "data:image/png;base64,/etc/hos"),
]


@pytest.mark.parametrize(("given", "read"), READ)
def test_what_upstream_sees(given: Any, read: Any) -> None:
    request = GenerateReqInput(text="x", image_data=given)
    assert not media_of(request).remote
    assert request.image_data == read


REFUSED = [
    *("/etc/passwd", "/proc/self/environ", "etc/passwd", "a.png", "../a.png", "./a", "~/a", "x"),
    *("file:///etc/passwd", "FILE:///etc/passwd", "file:/etc/passwd", "file://host/a"),
    *("ftp://example.com/a", "s3://bucket/a", "gopher://x", "video:/etc/passwd", "jar:a", "C:\\a"),
    *("//example.com/a", "http:a", "http://", "http://user:pw@example.com/", " http://a/", "\x00"),
    *("data:", "data:,a", "data:image/png,a", f"data:image/png;base64{TEXT}", f"{URI},", "é"),
    *(
        "data:image/png;base64,/etc/passwd",
        "data:;base64,%41",
        f"{TEXT}\n",
        "data:;base64,file:///",
    ),
    *({"path": "/etc/passwd"}, {"url": "/etc/passwd"}, {"video_path": "/etc/passwd"}),
    *({"url": TEXT, "other": ["/etc/passwd"]}, {"url": {"x": "y"}}, {"audio": "file:///a"}),
    *([["/etc/passwd"]], ImageData(url="/etc/passwd"), VideoData(url="file:///a"), [1], 1.5, True),
]


@pytest.mark.parametrize("field", ["image_data", "video_data", "audio_data"])
@pytest.mark.parametrize("given", REFUSED, ids=repr)
@pytest.mark.parametrize("operator", [False, True])
def test_what_nobody_may_send(field: str, given: Any, operator: bool) -> None:
    for request in (GenerateReqInput(text="x"), EmbeddingReqInput(text="x")):
        setattr(request, field, given)
        with pytest.raises(RequestError) as refused:
            media_of(request, operator=operator)
        assert (refused.value.status_code, refused.value.param) == (400, field)
        assert "etc/passwd" not in str(refused.value)


def test_the_way_out_is_told() -> None:
    with pytest.raises(RequestError, match=r"audio_data: .*files are not read.*data: URI"):
        media_of(GenerateReqInput(text="x", audio_data="/a.wav"))
    with pytest.raises(RequestError, match=r"image_data: .*no 'file' address.*data: URI"):
        media_of(GenerateReqInput(text="x", image_data="file:///a"))
    with pytest.raises(RequestError, match=r"image_data: this server fetches nothing.*data: URI"):
        media_of(GenerateReqInput(text="x", image_data=URL), remote=False)


PREPROCESSED = {"format": "precomputed_embedding", "feature": [[0.5]]}


@pytest.mark.parametrize("name", ["processor_output", "PROCESSOR_OUTPUT", "precomputed_embedding"])
def test_preprocessed_media_are_for_operators(name: str) -> None:
    given = {**PREPROCESSED, "format": name}
    with pytest.raises(RequestError) as refused:
        media_of(GenerateReqInput(text="x", image_data=[given]))
    assert (refused.value.status_code, refused.value.param) == (403, "image_data")
    request = GenerateReqInput(text="x", image_data=[given])
    media_of(request, operator=True)
    assert request.image_data == [given]


def test_what_was_fetched_takes_the_place_of_its_address() -> None:
    request = normalized(
        text=["a", "b"],
        image_data=[[URL, TEXT], [ImageData(url=URL, detail="low")]],
        audio_data=[URL, {"url": URL + "b"}],
        sampling_params={"n": 3},
    )
    media = media_of(request)
    assert set(media.remote) == {
        ("image_data", URL),
        ("audio_data", URL),
        ("audio_data", URL + "b"),
    }
    picture, sound = Fetched(b"a picture", "image/webp"), Fetched(b"a sound", "text/html")
    media.bring(
        {
            ("image_data", URL): picture,
            ("audio_data", URL): sound,
            ("audio_data", URL + "b"): sound,
        }
    )
    webp = f"data:image/webp;base64,{TEXT}"
    assert request.image_data == [[webp, URI], [ImageData(url=webp, detail="low")]] * 3
    wav = f"data:audio/wav;base64,{base64.b64encode(b'a sound').decode()}"
    assert request.audio_data == [wav, {"url": wav}] * 3


def test_media_are_bounded_together() -> None:
    large = base64.b64encode(b"x" * 600).decode()
    other = base64.b64encode(b"y" * 600).decode()
    media_of(normalized(text=["a"] * 4, image_data=large))  # the same one, four times
    with pytest.raises(RequestError, match=r"audio_data: media of more than 1000 bytes"):
        media_of(GenerateReqInput(text="x", image_data=large, audio_data=other))
    media_of(GenerateReqInput(text="x", image_data=large, audio_data=other), most=1200)
    assert media_of(GenerateReqInput(text="x", image_data=[URL, large])).room.left == 400


def saved(name: str, width: int = 10, height: int = 10) -> str:
    out = io.BytesIO()
    Image.new("RGB", (width, height)).save(out, name)
    return base64.b64encode(out.getvalue()).decode()


@pytest.mark.parametrize("name", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "JPEG2000", "PPM"])
def test_pixels_are_counted(name: str) -> None:
    picture, other = saved(name), saved(name, 20, 10)
    media = media_of(normalized(text=["a"] * 3, image_data=[[picture, other]] * 3), most=100_000)
    media.check_pictures(300)
    with pytest.raises(RequestError, match=r"image_data: pictures of more than 299 pixels"):
        media.check_pictures(299)


@pytest.mark.parametrize("given", [saved("EPS"), saved("ICO"), saved("PCX"), TEXT, ""])
def test_what_is_no_picture_is_not_unpacked(given: str) -> None:
    """Whatever the server could make of it: PostScript is a program."""
    media = media_of(GenerateReqInput(text="x", image_data=[given]), most=100_000)
    with pytest.raises(RequestError, match=r"image_data: no picture; give one of PNG"):
        media.check_pictures(1000)


def test_a_picture_that_says_it_is_huge_is_believed() -> None:
    small = make_png()
    size = b"IHDR" + (100_000).to_bytes(4, "big") * 2 + small[24:29]
    huge = small[:12] + size + zlib.crc32(size).to_bytes(4, "big") + small[33:]
    picture = base64.b64encode(huge).decode()
    media = media_of(GenerateReqInput(text="x", image_data=picture))
    with pytest.raises(RequestError, match="pictures of more than"):
        media.check_pictures(1 << 27)
