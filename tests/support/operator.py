"""Who holds the admin key of a server, and what the endpoints for operators answer them."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from typing import Any

import httpx

from support.asks import TIMEOUT
from support.server import Server


def fresh_admin_key() -> str:
    return f"adm-{secrets.token_hex(12)}"


@dataclass(frozen=True)
class Operator:
    """Sends each request over a connection of its own, so that any HTTP process may get it."""

    server: Server
    key: str | None = field(repr=False)

    def ask(self, method: str, path: str, body: Any = None, **options: Any) -> httpx.Response:
        """Any request, any answer; ``body`` is sent as JSON."""
        headers = {"Connection": "close"}
        if self.key is not None:
            headers["Authorization"] = f"Bearer {self.key}"
        if body is not None:
            options["json"] = body
        url = self.server.url + path
        return httpx.request(method, url, headers=headers, timeout=TIMEOUT, **options)

    def json(self, method: str, path: str, body: Any = None) -> Any:
        """The JSON of a 200. Raises httpx.HTTPStatusError where it is another."""
        response = self.ask(method, path, body)
        response.raise_for_status()
        return response.json()

    def publish(self, **body: Any) -> Any:
        return self.json("POST", "/tenant/public_prefixes", body)

    def withdraw(self, name: str) -> Any:
        return self.json("DELETE", f"/tenant/public_prefixes?name={name}")

    def prefixes(self) -> dict[str, dict[str, Any]]:
        """What is registered, by name."""
        listed = self.json("GET", "/tenant/public_prefixes")["public_prefixes"]
        return {entry["name"]: entry for entry in listed}


def refusal_of(response: httpx.Response, status: int, param: str) -> str:
    """The message of an error in the shape of OpenAI's, which begins with the field."""
    assert response.status_code == status, response.text
    error = response.json()["error"]
    assert (error["param"], error["code"]) == (param, status)
    assert error["type"] == "invalid_request_error"
    message = str(error["message"])
    assert message.startswith(param)
    return message
