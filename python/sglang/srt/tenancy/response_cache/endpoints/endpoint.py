"""What the cache asks of an endpoint."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

# Cuts a text into the pieces that an engine would have streamed; joined, they are the text.
Split = Callable[[str], Sequence[str]]
Body = dict[str, Any]


class Endpoint(Protocol):
    """How one endpoint's requests ask, and how its answers look, whole and in a stream.

    Events are bytes as sent, each with its blank line (``data: {...}\\n\\n``): ``sse.Splitter``.
    ``body`` is the request with the server's defaults filled in (``stream_options``, where it
    includes usage for all). Nothing raises for what a client or a server sent.
    """

    @property
    def path(self) -> str:
        """Where requests go."""
        ...

    def asked_stream(self, body: Mapping[str, Any]) -> Body:
        """Return the request to send so that its stream holds all of the final object (usage)."""
        ...

    def shown(self, event: bytes, body: Mapping[str, Any]) -> bytes | None:
        """Return an event as whoever sent ``body`` is to see it; None: they did not ask for it."""
        ...

    def keep(self, kept: list[bytes], event: bytes) -> None:
        """Add an event to those that ``assembled`` is to be given; drop those that it repeats."""
        ...

    def assembled(self, events: Iterable[bytes], body: Mapping[str, Any]) -> bytes | None:
        """Make the final object of a stream. None where it is not complete, has failed, or where
        ``body`` asked for what streams do not carry."""
        ...

    def complete(self, answer: bytes) -> bool:
        """Tell whether a final object is one to keep: no error in it, nothing aborted."""
        ...

    def replayed(self, answer: bytes, body: Mapping[str, Any], split: Split) -> Iterator[bytes]:
        """Stream a final object as the endpoint would have, for the request ``body``."""
        ...

    def samples(self, body: Mapping[str, Any]) -> int | None:
        """Return how many answers a request asks for (``n``); None where it cannot be told."""
        ...

    def held(self, answer: bytes) -> int:
        """Return how many samples a final object holds."""
        ...

    def with_samples(self, body: Mapping[str, Any], number: int) -> Body:
        """Return the request for another number of samples."""
        ...

    def picked(self, answers: Sequence[bytes], numbers: Sequence[int]) -> bytes:
        """Make one final object of samples, numbered through all answers; usage is the sum of what
        the answers took that are used."""
        ...

    def named(self, answer: bytes, rid: str) -> bytes:
        """Return a final object with the id that this request chose."""
        ...
