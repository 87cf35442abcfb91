"""What endpoints have in common whose answers hold one sample."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sglang.srt.tenancy.response_cache.endpoints import answers
from sglang.srt.tenancy.response_cache.endpoints.endpoint import Body


class SingleSample:
    """Answers once, and tells what it took in any stream."""

    __slots__ = ()

    def asked_stream(self, body: Mapping[str, Any]) -> Body:
        return {**body, "stream": True}

    def shown(self, event: bytes, body: Mapping[str, Any]) -> bytes | None:
        return event

    def keep(self, kept: list[bytes], event: bytes) -> None:
        kept.append(event)

    def samples(self, body: Mapping[str, Any]) -> int | None:
        return 1

    def held(self, answer: bytes) -> int:
        return 1

    def with_samples(self, body: Mapping[str, Any], number: int) -> Body:
        return dict(body)

    def picked(self, given: Sequence[bytes], numbers: Sequence[int]) -> bytes:
        return given[numbers[0]]

    def named(self, answer: bytes, rid: str) -> bytes:
        return answers.with_id(answer, rid)
