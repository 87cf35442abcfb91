"""A plugin that adds routes of its own to a server."""

from __future__ import annotations

import sys
from typing import Any


def add() -> None:
    """Add one that tells what its caller gave, and one for operators."""
    server: Any = sys.modules.get("sglang.srt.entrypoints.http_server")
    if server is None:  # a process that speaks no HTTP
        return
    from sglang.srt.utils.auth import AuthLevel, auth_level

    async def echo(name: str) -> dict[str, str]:
        return {"name": name}

    @auth_level(AuthLevel.ADMIN_OPTIONAL)
    async def control() -> dict[str, str]:
        return {"done": "yes"}

    server.app.add_api_route("/plugin/{name}", echo, methods=["GET"])
    server.app.add_api_route("/plugin/x/control", control, methods=["POST"])
