"""One of several servers, or the router before them, as a user of a gateway meets it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from support.asks import TIMEOUT, sampling
from support.patience import until


@dataclass(frozen=True)
class Replica:
    """``key``: the gateway's; ``header``: in which it names users. ``log``: of a server."""

    url: str
    key: str = field(repr=False)
    header: str
    log: Path | None = None

    def post(
        self, path: str, body: Any = None, user: str | None = None, key: str | None = None
    ) -> httpx.Response:
        """Any request for a user, any answer."""
        headers = {"Authorization": f"Bearer {key or self.key}"}
        if user is not None:
            headers[self.header] = user
        return httpx.post(self.url + path, json=body, headers=headers, timeout=TIMEOUT)

    def get(self, path: str, key: str) -> Any:
        """The JSON of a 200."""
        headers = {"Authorization": f"Bearer {key}"}
        response = httpx.get(self.url + path, headers=headers, timeout=TIMEOUT)
        response.raise_for_status()
        return response.json()

    def cached(self, prompt: str, user: str, **fields: Any) -> int:
        """How many of the prompt's tokens were found."""
        body = {"text": prompt, "sampling_params": sampling(), **fields}
        response = self.post("/generate", body, user)
        response.raise_for_status()
        return int(response.json()["meta_info"]["cached_tokens"])

    def empty_cache(self, admin_key: str) -> None:
        """Forget what device and host hold; what is being written to storage gets there first."""
        until(
            lambda: self.post("/flush_cache", key=admin_key).status_code == 200, "the worker idles"
        )

    def put(self, path: str, body: Any, key: str) -> None:
        """Raises where it is no 200."""
        headers = {"Authorization": f"Bearer {key}"}
        httpx.put(self.url + path, json=body, headers=headers, timeout=TIMEOUT).raise_for_status()

    def answered(self, path: str, status: int) -> int:
        """How many requests to this path it has answered so, as its log tells."""
        assert self.log is not None
        return self.log.read_text(errors="replace").count(f'"POST {path} HTTP/1.1" {status}')
