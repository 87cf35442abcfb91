"""The server proves its own isolation before it calls itself healthy.

Isolation that silently stopped working is the classic failure of this feature: a field
dropped on the way, and everything is shared again. So two synthetic users send real
requests through the real middleware, in this process, without a socket.
"""

from __future__ import annotations

import asyncio
import os
import random
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import httpx

from sglang.srt.tenancy.control.client import control_client_of
from sglang.srt.tenancy.control.messages import Erase, Refused
from sglang.srt.tenancy.http.identity import headers_of_the_server_itself
from sglang.srt.tenancy.http.log import logger
from sglang.srt.utils import kill_process_tree

if TYPE_CHECKING:
    from fastapi import FastAPI

    from sglang.srt.tenancy.flags import TenantOptions

_TIMEOUT = 600.0  # seconds for one request: the first may compile kernels
_CHANCE = 16  # tokens; with so many no prompt of somebody else begins like a random one
_OWN_HIT_TRIES = 3  # under load a fresh prefix may be evicted before it is asked for again


class SelfTestError(RuntimeError):
    """Isolation does not hold, or could not be shown."""


async def prove_at_startup(app: FastAPI, options: TenantOptions) -> None:
    """Run ``prove``; on failure the server stops, with every process of it."""
    with server_stops_on_failure(app, "Tenant self-test failed"):
        checks = await prove(app)
    logger.info("Tenant self-test passed (%s): %s", options.tenant_mode, "; ".join(checks))


@contextmanager
def server_stops_on_failure(app: FastAPI, what: str) -> Iterator[None]:
    """Guard steps without which the server must not start: every process of it ends."""
    try:
        yield
    except Exception as error:
        logger.critical("%s, the server stops: %s", what, error)
        if not getattr(app, "is_single_tokenizer_mode", False):
            # Asked to stop, the supervisor would do so as if all were well, with exit code 0.
            kill_process_tree(os.getppid(), skip_pid=os.getpid())
        raise


# Whether isolation held when this process last tried; None before it did.
passed: bool | None = None


async def prove(app: FastAPI) -> list[str]:
    """Prove isolation; a line for each check. Raises SelfTestError on the first that fails."""
    global passed
    try:
        checks = await _prove(app)
    except SelfTestError:
        passed = False
        raise
    passed = True
    return checks


async def _prove(app: FastAPI) -> list[str]:
    from sglang.srt.entrypoints.http_server import get_global_state

    state = get_global_state()
    if state is None:
        raise SelfTestError("the engine is not there yet")
    manager = state.tokenizer_manager
    args = manager.server_args
    endpoints = ["/generate"] if args.skip_tokenizer_init else ["/generate", "/v1/completions"]
    transport = httpx.ASGITransport(app=app)
    headers = headers_of_the_server_itself()
    if args.api_key:
        headers["Authorization"] = f"Bearer {args.api_key}"
    async with httpx.AsyncClient(
        transport=transport,
        base_url="http://self-test",
        headers=headers,
        timeout=_TIMEOUT,
    ) as client:
        checks = []
        for rank in range(args.dp_size):
            for endpoint in endpoints:
                probe = _Probe(client, manager, rank if args.dp_size > 1 else None)
                await probe.run(endpoint, strangers_share=args.tenant_mode == "shared")
                if args.tenant_mode != "shared":
                    await _erase(app, probe.owner, probe.stranger)
                where = f"{endpoint} rank {rank}" if args.dp_size > 1 else endpoint
                checks.append(f"{where}: own prefix hit, stranger's {probe.outcome}")
        return checks


async def _erase(app: FastAPI, *users: str) -> None:
    for user in users:
        try:
            await control_client_of(app).ask(Erase(user))
        except Refused as error:
            raise SelfTestError(f"what the test stored cannot be erased: {error}") from None


class _Probe:
    """One prompt that nobody ever sent, and two users who do."""

    def __init__(self, client: httpx.AsyncClient, manager: Any, rank: int | None):
        self.client = client
        self.model = manager.served_model_name
        self.rank = rank
        length = max(4 * _CHANCE, 3 * manager.server_args.page_size)
        vocabulary: int = manager.model_config.vocab_size
        tokens = range(vocabulary // 4, vocabulary // 2)
        self.prompt = random.SystemRandom().choices(tokens, k=length)
        self.owner, self.stranger = (f"selftest:{secrets.token_hex(8)}" for _ in range(2))
        self.outcome = ""

    async def run(self, endpoint: str, *, strangers_share: bool) -> None:
        await self._send(endpoint, self.owner)
        seen = await self._cached(self.stranger)
        if seen >= _CHANCE and not strangers_share:
            raise SelfTestError(
                f"{endpoint}: a second user was served {seen} cached tokens of the first user's "
                "prompt"
            )
        if seen < _CHANCE and strangers_share:
            raise SelfTestError(f"{endpoint}: a shared prefix was not found by a second user")
        await self._own_hit(endpoint)
        self.outcome = "shared" if strangers_share else "unseen"

    async def _own_hit(self, endpoint: str) -> None:
        for _ in range(_OWN_HIT_TRIES):
            if await self._cached(self.owner) >= _CHANCE:
                return
            await self._send(endpoint, self.owner)
        raise SelfTestError(f"{endpoint}: a user's own prefix was not found again")

    async def _cached(self, user: str, **fields: Any) -> int:
        """Count the prompt's tokens that this user gets from the cache."""
        reply = await self._send("/generate", user, **fields)
        return int(reply["meta_info"]["cached_tokens"])

    async def _send(self, endpoint: str, user: str, **fields: Any) -> dict[str, Any]:
        body: dict[str, Any] = {"user_id": user, **fields}
        if endpoint == "/generate":
            body |= {"input_ids": self.prompt, "sampling_params": {"max_new_tokens": 1}}
        else:
            body |= {"model": self.model, "prompt": self.prompt, "max_tokens": 1}
        headers = {}
        if self.rank is not None:
            headers["X-Data-Parallel-Rank"] = str(self.rank)
            if endpoint == "/generate":
                body["routed_dp_rank"] = self.rank
        try:
            response = await asyncio.wait_for(
                self.client.post(endpoint, json=body, headers=headers), _TIMEOUT
            )
        except asyncio.TimeoutError:
            raise SelfTestError(f"{endpoint}: no answer in {_TIMEOUT:.0f} s") from None
        if response.status_code != 200:
            raise SelfTestError(f"{endpoint}: {response.status_code} {response.text[:200]}")
        reply: dict[str, Any] = response.json()
        return reply
