"""Send requests of the server's own through the real middleware, in this process, with no socket.

Their users are names that no client can claim. What they leave behind is erased.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import httpx

from sglang.srt.tenancy.control.client import control_client_of
from sglang.srt.tenancy.control.messages import Erase
from sglang.srt.tenancy.http.identity import headers_of_the_server_itself
from sglang.srt.tenancy.user_id import OWN_PREFIX

if TYPE_CHECKING:
    from fastapi import FastAPI

_TIMEOUT = 600.0  # seconds for one request: the first may compile kernels


class OwnRequestError(RuntimeError):
    """A request of the server's own that was not answered as it should be."""


def fresh_user(purpose: str) -> str:
    """Make a user for the server's own requests."""
    return f"{OWN_PREFIX}{purpose}:{secrets.token_hex(8)}"


class OwnRequests:
    """``args``: the server's. ``vocabulary``: tokens that its model knows."""

    def __init__(self, app: FastAPI, client: httpx.AsyncClient, manager: Any):
        self.args = manager.server_args
        self.vocabulary: int = manager.model_config.vocab_size
        self._app = app
        self._client = client
        self._model = manager.served_model_name

    @property
    def replicas(self) -> list[int | None]:
        """Name each data-parallel replica, as ``send`` takes it."""
        return [*range(self.args.dp_size)] if self.args.dp_size > 1 else [None]

    async def send(
        self, endpoint: str, user: str, prompt: Sequence[int], replica: int | None, **fields: Any
    ) -> dict[str, Any]:
        """Ask for one token, at /generate or /v1/completions. Raises OwnRequestError."""
        body: dict[str, Any] = {"user_id": user, **fields}
        if endpoint == "/generate":
            body |= {"input_ids": list(prompt), "sampling_params": {"max_new_tokens": 1}}
        else:
            body |= {"model": self._model, "prompt": list(prompt), "max_tokens": 1}
        headers = {}
        if replica is not None:
            headers["X-Data-Parallel-Rank"] = str(replica)
            if endpoint == "/generate":
                body["routed_dp_rank"] = replica
        try:
            response = await asyncio.wait_for(
                self._client.post(endpoint, json=body, headers=headers), _TIMEOUT
            )
        except asyncio.TimeoutError:
            raise OwnRequestError(f"{endpoint}: no answer in {_TIMEOUT:.0f} s") from None
        if response.status_code != 200:
            raise OwnRequestError(f"{endpoint}: {response.status_code} {response.text[:200]}")
        reply: dict[str, Any] = response.json()
        return reply

    async def count_cached(self, user: str, prompt: Sequence[int], replica: int | None) -> int:
        """Count the prompt's tokens that this user gets from the cache. Raises OwnRequestError."""
        reply = await self.send("/generate", user, prompt, replica)
        return int(reply["meta_info"]["cached_tokens"])

    async def erase(self, *users: str) -> None:
        """Free what was private to them. Raises Refused."""
        if self.args.tenant_mode != "shared":
            for user in users:
                await control_client_of(self._app).ask(Erase(user))


@asynccontextmanager
async def own_requests(app: FastAPI) -> AsyncIterator[OwnRequests]:
    """Raises OwnRequestError where there is no engine yet."""
    from sglang.srt.entrypoints.http_server import get_global_state

    state = get_global_state()
    if state is None:
        raise OwnRequestError("the engine is not there yet")
    manager = state.tokenizer_manager
    args = manager.server_args
    headers = headers_of_the_server_itself()
    if args.api_key:
        headers["Authorization"] = f"Bearer {args.api_key}"
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app=app),
        base_url="http://self-test",
        headers=headers,
        timeout=_TIMEOUT,
    ) as client:
        yield OwnRequests(app, client, manager)
