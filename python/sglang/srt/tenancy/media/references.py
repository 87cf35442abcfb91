"""Find the media of a request, and how each is given: as itself, or by an address.

Upstream reads a string in many ways, each processor in its own: as an address, a path, a data URI
or base64. What leaves here can be read in one way only: a data URI, or bytes.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypeAlias

import httpx
import pybase64

from sglang.srt.tenancy.errors import RequestError, bad_field
from sglang.srt.tenancy.media.fetch import Fetched, Room, parse_url
from sglang.srt.tenancy.media.pictures import FORMATS, count_pixels

_PICTURES = "image_data"
# Fields of upstream's requests, and what kind of media each holds.
FIELDS = {_PICTURES: "image/png", "video_data": "video/mp4", "audio_data": "audio/wav"}

_OTHERWISE = "send the medium itself: a data: URI, or base64"
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]{0,30}):")
_MEDIA_TYPE = re.compile(r"[a-z]+/[a-z0-9][a-z0-9.+-]{0,60}")
# Keys of an object under which some processor of upstream's looks for a medium.
_MEDIA_KEYS = ("url", "video_path", "audio")
# Keys that say how to read it.
_TEXT_KEYS = ("detail", "type", "modality")
_PREPROCESSED = ("processor_output", "precomputed_embedding")

# A field, and the text in it.
Key: TypeAlias = tuple[str, str]
Resolve: TypeAlias = Callable[[str], str]


class RequestMedia:
    """The media of one request, which is changed in place: what is given as itself is decoded once.

    ``remote``: what is to be fetched, by field and by the text that names it.
    """

    def __init__(self, request: Any, most_bytes: int, *, remote: bool, operator: bool):
        """Raises RequestError: 400, or 403 for what only operators may send.

        ``most_bytes``: of all media together. ``remote``: whether any may be fetched.
        """
        self.remote: dict[Key, httpx.URL] = {}
        self.room = Room(most_bytes)
        self._request = request
        self._most_bytes = most_bytes
        self._fetches = remote
        self._operator = operator
        for field in FIELDS:
            self._replace(field, partial(self._read, field))

    def bring(self, fetched: dict[Key, Fetched]) -> None:
        """Put what was fetched where its address is."""
        for field, kind in FIELDS.items():
            brought = {
                text: _data_uri(kind, medium.media_type, _base64(medium.content))
                for (of, text), medium in fetched.items()
                if of == field
            }
            if brought:
                self._replace(field, partial(_exchanged, brought))

    def check_pictures(self, most: int) -> None:
        """Refuse what is no picture, and more than ``most`` pixels together.

        To be called when all are here, in a thread: each picture's head is read. Raises
        RequestError 400.
        """
        left = most

        def count(text: str) -> str:
            nonlocal left
            pixels = count_pixels(pybase64.b64decode(text.rpartition(",")[2]))
            if pixels is None:
                raise bad_field(_PICTURES, f"no picture; give one of {', '.join(FORMATS)}")
            left -= pixels
            if left < 0:
                raise bad_field(_PICTURES, f"pictures of more than {most} pixels together")
            return text

        self._replace(_PICTURES, count)

    def _replace(self, field: str, resolve: Resolve) -> None:
        value = getattr(self._request, field, None)
        if value is not None:
            rewriting = _Rewriting(field, resolve, self._operator)
            setattr(self._request, field, rewriting.of(value))

    def _read(self, field: str, text: str) -> str:
        """Return what takes the place of a text that is, or names, a medium."""
        scheme = _SCHEME.match(text)
        if scheme is None:
            return self._inline(field, "", text)
        if scheme[1].lower() == "data":
            head, comma, payload = text[len("data:") :].partition(",")
            media_type, _, encoding = head.rpartition(";")
            if not comma or encoding.strip().lower() != "base64":
                raise bad_field(field, "a data: URI that is not `data:TYPE;base64,...`")
            return self._inline(field, media_type, payload)
        if scheme[1].lower() not in ("http", "https"):
            raise bad_field(field, f"the server reads no {scheme[1]!r} address; {_OTHERWISE}")
        if not self._fetches:
            raise bad_field(field, f"this server fetches nothing; {_OTHERWISE}")
        try:
            self.remote[field, text] = parse_url(text)
        except ValueError as error:
            raise bad_field(field, f"{error}; {_OTHERWISE}") from None
        return text

    def _inline(self, field: str, media_type: str, payload: str) -> str:
        self.room.left -= len(payload) * 3 // 4
        if self.room.left < 0:
            raise bad_field(field, f"media of more than {self._most_bytes} bytes together")
        try:
            pybase64.b64decode(payload, validate=True)
        except ValueError:  # a path is one too: it is read as nothing else
            raise bad_field(
                field, f"neither base64 nor an address (files are not read); {_OTHERWISE}"
            ) from None
        return _data_uri(FIELDS[field], media_type, payload)


class _Rewriting:
    """Rewrites the texts in one field. What occurs in several places is read once."""

    def __init__(self, field: str, resolve: Resolve, operator: bool):
        self._field = field
        self._resolve = resolve
        self._operator = operator
        self._texts: dict[str, str] = {}
        # Normalizing puts the same list beside itself, once for each sample.
        self._lists: dict[int, list[Any]] = {}

    def of(self, value: Any) -> Any:
        """Return the value with its texts rewritten. Raises RequestError."""
        if value is None or isinstance(value, bytes):  # an upload's: its body was bounded
            return value
        if isinstance(value, str):
            if value not in self._texts:
                self._texts[value] = self._resolve(value)
            return self._texts[value]
        if isinstance(value, list):
            if id(value) not in self._lists:
                self._lists[id(value)] = [self.of(one) for one in value]
            return self._lists[id(value)]
        if isinstance(value, dict):
            return self._of_object(value)
        if dataclasses.is_dataclass(value) and hasattr(value, "url"):
            return dataclasses.replace(value, url=self.of(value.url))  # type: ignore[type-var]
        raise bad_field(self._field, f"a value of type {type(value).__name__} is no medium")

    def _of_object(self, value: dict[Any, Any]) -> dict[Any, Any]:
        if str(value.get("format")).lower() in _PREPROCESSED:
            if not self._operator:
                raise RequestError(
                    403, self._field, f"{self._field}: preprocessed media are for operators only"
                )
            return value
        rewritten = {}
        for key, one in value.items():
            if key in _MEDIA_KEYS:
                rewritten[key] = self.of(one)
            elif key not in _TEXT_KEYS and _holds_text(one):
                raise bad_field(self._field, f"unknown text in an object; give {_MEDIA_KEYS[0]!r}")
            else:
                rewritten[key] = one
        return rewritten


def _exchanged(brought: Mapping[str, str], text: str) -> str:
    return brought.get(text, text)


def _holds_text(value: Any) -> bool:
    if isinstance(value, dict):
        value = list(value.values())
    return any(map(_holds_text, value)) if isinstance(value, list) else isinstance(value, str)


def _base64(content: bytes) -> str:
    return pybase64.b64encode(content).decode("ascii")


def _data_uri(kind: str, media_type: str, payload: str) -> str:
    """``kind``: what the medium is called if ``media_type`` is none of that kind."""
    named = media_type.strip().lower()
    fits = named.startswith(kind.partition("/")[0] + "/") and _MEDIA_TYPE.fullmatch(named)
    return f"data:{named if fits else kind};base64,{payload}"
