"""Refuse a request, in the shape of errors that its client knows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fastapi.responses import JSONResponse

_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    429: "rate_limit_error",
}
# Clients of these paths are Anthropic's, and read another envelope.
_ANTHROPIC_PATH = "/v1/messages"


class RequestError(ValueError):
    """A request that the server refuses.

    ``param``: the field, header or limit at fault, which the message names too. ``detail``: what
    the client is told besides, and nobody else: upstream logs the message.
    """

    def __init__(self, status_code: int, param: str, message: str, detail: str = ""):
        super().__init__(message)
        self.status_code = status_code
        self.param = param
        self.detail = detail

    @property
    def told(self) -> str:
        """What the client is told."""
        return f"{self} ({self.detail})" if self.detail else str(self)

    @property
    def headers(self) -> dict[str, str]:
        return {"WWW-Authenticate": "Bearer"} if self.status_code == 401 else {}


def bad_field(field: str, fault: str, detail: str = "") -> RequestError:
    """Make the error of a field that no request may have like this: 400."""
    return RequestError(400, field, f"{field}: {fault}", detail)


def error_response(
    status: int,
    message: str,
    param: str,
    headers: Mapping[str, str] | None = None,
    path: str = "",
) -> JSONResponse:
    """Make an error's response, in Anthropic's envelope or OpenAI's.

    ``param``: the field, header or flag that the message is about; ``path``: of the request.
    """
    from fastapi.responses import JSONResponse  # not where only the classes are wanted

    kind = _TYPES.get(status, "invalid_request_error" if status < 500 else "server_error")
    detail = {"message": message, "type": kind, "param": param, "code": status}
    body: dict[str, Any] = {"error": detail}
    if path.startswith(_ANTHROPIC_PATH):
        body["type"] = "error"
    return JSONResponse(body, status_code=status, headers=dict(headers or {}))
