"""Read what a request says of caching: the directives of RFC 9111, 5.2.1, that the cache keeps."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

_HEADER = b"cache-control"
_MOST_DIGITS = 10


@dataclass(frozen=True, slots=True)
class CacheControl:
    """``no_store``: keep nothing, answer from nothing kept. ``no_cache``: compute anew, keep that.

    ``max_age``: seconds that an answer may be old; asked for, any answer may be kept.
    """

    no_store: bool = False
    no_cache: bool = False
    max_age: int | None = None

    @classmethod
    def of(cls, headers: Iterable[tuple[bytes, bytes]]) -> CacheControl:
        """Read a request's headers; what is no directive of ours, or no number, says nothing."""
        said = {}
        for name, value in headers:
            if name.lower() == _HEADER:
                for directive in value.decode("latin-1").lower().split(","):
                    word, _, argument = directive.strip().partition("=")
                    said[word.strip()] = argument.strip(' "')
        return cls("no-store" in said, "no-cache" in said, _seconds(said.get("max-age")))


def _seconds(text: str | None) -> int | None:
    if text is None or not (text.isascii() and text.isdigit()):
        return None
    return int(text[:_MOST_DIGITS])
