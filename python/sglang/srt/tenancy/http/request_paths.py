"""Name the paths and methods of requests in metrics: those that there are, and one for all others.

Each name is a time series for ever. Whoever asks for paths that do not exist, or by methods of
their own, would make as many, and a path may hold a user's id.
"""

from __future__ import annotations

from typing import Any

from sglang.srt.plugins.hook_registry import HookRegistry, HookSource, HookType

OTHER = "other"
_METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT"}
_TARGET = "sglang.srt.utils.common._get_fastapi_request_path"


def install() -> None:
    """Have upstream's HTTP metrics name requests so. To be applied by the registry."""
    if _TARGET not in HookRegistry._hooks:
        source = HookSource("tenant request paths", None)
        HookRegistry.register(_TARGET, _named, HookType.AFTER, source=source)


def _named(found: tuple[str, bool], request: Any) -> tuple[str, bool]:
    if request.method not in _METHODS:
        # What is counted reads the method here next; what answers has the scope itself.
        request.scope = {**request.scope, "method": OTHER}
    _, known = found
    return found if known else (OTHER, False)
