"""The server proves its own isolation before it calls itself healthy.

Isolation that silently stopped working is the classic failure of this feature: a field
dropped on the way, and everything is shared again. So two synthetic users send real
requests through the real middleware, in this process, without a socket.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from sglang.srt.tenancy.control.messages import Refused
from sglang.srt.tenancy.http.log import logger
from sglang.srt.tenancy.http.own_requests import (
    OwnRequestError,
    OwnRequests,
    fresh_user,
    own_requests,
)
from sglang.srt.utils import kill_process_tree

if TYPE_CHECKING:
    from fastapi import FastAPI

    from sglang.srt.tenancy.flags import TenantOptions

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
    try:
        async with own_requests(app) as requests:
            args = requests.args
            shared = args.tenant_mode == "shared"
            endpoints = ["/generate", "/v1/completions"]
            checks = []
            for replica in requests.replicas:
                for endpoint in endpoints[:1] if args.skip_tokenizer_init else endpoints:
                    probe = _Probe(requests, replica)
                    await probe.run(endpoint, strangers_share=shared)
                    await requests.erase(probe.owner, probe.stranger)
                    where = endpoint if replica is None else f"{endpoint} rank {replica}"
                    outcome = "shared" if shared else "unseen"
                    checks.append(f"{where}: own prefix hit, stranger's {outcome}")
            return checks
    except Refused as error:
        raise SelfTestError(f"what the test stored cannot be erased: {error}") from None
    except OwnRequestError as error:
        raise SelfTestError(str(error)) from None


class _Probe:
    """One prompt that nobody ever sent, and two users who do."""

    def __init__(self, requests: OwnRequests, replica: int | None):
        self._requests = requests
        self._replica = replica
        length = max(4 * _CHANCE, 3 * requests.args.page_size)
        tokens = range(requests.vocabulary // 4, requests.vocabulary // 2)
        self._prompt = random.SystemRandom().choices(tokens, k=length)
        self.owner, self.stranger = (fresh_user("selftest") for _ in range(2))

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

    async def _own_hit(self, endpoint: str) -> None:
        for _ in range(_OWN_HIT_TRIES):
            if await self._cached(self.owner) >= _CHANCE:
                return
            await self._send(endpoint, self.owner)
        raise SelfTestError(f"{endpoint}: a user's own prefix was not found again")

    async def _send(self, endpoint: str, user: str) -> None:
        await self._requests.send(endpoint, user, self._prompt, self._replica)

    async def _cached(self, user: str) -> int:
        return await self._requests.count_cached(user, self._prompt, self._replica)
