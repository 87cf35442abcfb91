"""Answer what is refused in the shape of OpenAI's errors."""

from __future__ import annotations

from collections.abc import Mapping

from fastapi.responses import JSONResponse

_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    429: "rate_limit_error",
}


def error_response(
    status: int, message: str, param: str, headers: Mapping[str, str] | None = None
) -> JSONResponse:
    """Make an error's response. ``param``: the field, header or flag that the message is about."""
    kind = _TYPES.get(status, "invalid_request_error" if status < 500 else "server_error")
    detail = {"message": message, "type": kind, "param": param, "code": status}
    return JSONResponse({"error": detail}, status_code=status, headers=dict(headers or {}))
