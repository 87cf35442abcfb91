"""``GET /tenant/``: the live page. It holds no data, so it needs no key; what it shows it asks for
with the key that an operator types into it."""

from __future__ import annotations

import base64
import hashlib
import re
from functools import cache
from pathlib import Path
from typing import Any

from fastapi import Request
from fastapi.responses import Response

from sglang.srt.plugins.hook_registry import HookRegistry, HookSource, HookType
from sglang.srt.utils.auth import AuthDecision

PATH = "/tenant/"
_FILE = Path(__file__).with_name("page.html")
_INLINE = re.compile(r"<(style|script)>(.*?)</\1>", re.DOTALL)
_TARGET = "sglang.srt.utils.auth.decide_request_auth"


def install() -> None:
    """Have upstream ask for no ``--api-key`` here: a browser that opens a page cannot send one. To
    be applied by the registry."""
    if all(hook is not _without_key for _, hook, _ in HookRegistry._hooks[_TARGET]):
        source = HookSource("tenant live page", None)
        HookRegistry.register(_TARGET, _without_key, HookType.AFTER, source=source)


def _without_key(decision: AuthDecision, **asked: Any) -> AuthDecision:
    opens = asked.get("path") == PATH and asked.get("method") == "GET"
    return AuthDecision(allowed=True) if opens else decision


async def page(request: Request) -> Response:
    """Show the live page."""
    content, headers = _page()
    return Response(content, media_type="text/html; charset=utf-8", headers=headers)


@cache
def _page() -> tuple[bytes, dict[str, str]]:
    content = _FILE.read_bytes()
    return content, {
        "Content-Security-Policy": policy(content.decode()),
        "Cache-Control": "no-store",
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
        "X-Frame-Options": "DENY",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    }


def policy(html: str) -> str:
    """Allow the page its own script and style, by their hashes, and to ask this server; nothing
    else."""
    hashes: dict[str, list[str]] = {"style": [], "script": []}
    for kind, text in _INLINE.findall(html):
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        hashes[kind].append(f"'sha256-{digest}'")
    rules = ["default-src 'none'"]
    rules += [f"{kind}-src {' '.join(known)}" for kind, known in hashes.items()]
    rules += ["connect-src 'self'", "frame-ancestors 'none'", "base-uri 'none'"]
    return "; ".join([*rules, "form-action 'none'"])
