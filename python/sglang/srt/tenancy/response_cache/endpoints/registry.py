"""The endpoints whose answers are stored."""

from __future__ import annotations

from sglang.srt.tenancy.response_cache.endpoints.chat import Chat
from sglang.srt.tenancy.response_cache.endpoints.completions import Completions
from sglang.srt.tenancy.response_cache.endpoints.endpoint import Endpoint
from sglang.srt.tenancy.response_cache.endpoints.generate import Generate
from sglang.srt.tenancy.response_cache.endpoints.messages import Messages
from sglang.srt.tenancy.response_cache.endpoints.responses import Responses


def endpoints(*, sglang: bool = False, incremental: bool = False) -> dict[str, Endpoint]:
    """Return the endpoints by path.

    ``sglang``: whether the server is SGLang, ours or plain; ``incremental``: whether it was started
    with --incremental-streaming-output.
    """
    all_of: tuple[Endpoint, ...] = (
        Generate(incremental),
        Completions(),
        Chat(),
        Responses(sglang),
        Messages(),
    )
    return {endpoint.path: endpoint for endpoint in all_of}


ENDPOINTS = endpoints()
