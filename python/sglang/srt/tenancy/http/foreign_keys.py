"""Let upstream refuse keys beyond ASCII: it compares strings, which Python does for ASCII alone."""

from __future__ import annotations

from typing import Any

from sglang.srt.plugins.hook_registry import HookRegistry, HookSource, HookType

_TARGET = "sglang.srt.utils.auth.decide_request_auth"


def install() -> None:
    """Have such a key be none. To be applied by the registry."""
    if _TARGET not in HookRegistry._hooks:
        source = HookSource("tenant foreign keys", None)
        HookRegistry.register(_TARGET, _without, HookType.BEFORE, source=source)


def _without(**asked: Any) -> tuple[tuple[()], dict[str, Any]] | None:
    header = asked.get("authorization_header")
    if header is None or header.isascii():
        return None
    return (), {**asked, "authorization_header": "Bearer ?"}
