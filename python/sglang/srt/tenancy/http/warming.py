"""Compute registered prefixes before anybody asks for them, on every replica."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from sglang.srt.tenancy.config import TenantConfig
from sglang.srt.tenancy.control.client import control_client_of
from sglang.srt.tenancy.control.messages import Prefix, refused
from sglang.srt.tenancy.http.log import logger
from sglang.srt.tenancy.http.own_requests import (
    OwnRequestError,
    OwnRequests,
    fresh_user,
    own_requests,
)

if TYPE_CHECKING:
    from fastapi import FastAPI


async def warm(app: FastAPI, prefixes: Iterable[Prefix]) -> None:
    """Compute them all, and see that a user who comes then hits each. Raises Refused 409 where one
    is not kept: it is registered, but the cache has no room for it."""
    async with own_requests(app) as requests:
        for prefix in prefixes:
            for replica in requests.replicas:
                await _warm(requests, prefix.name, prefix.tokens, replica)
            logger.info("Public prefix %s is computed: %d tokens.", prefix.name, len(prefix.tokens))


async def warm_file(app: FastAPI, config: TenantConfig) -> None:
    """Compute those prefixes of the config file that are to be ``warm``. Raises Refused."""
    specs = [spec for spec in config.public_prefixes if spec.warm]
    if specs:
        await warm(app, await control_client_of(app).tokenize(specs))


async def _warm(
    requests: OwnRequests, name: str, tokens: Sequence[int], replica: int | None
) -> None:
    page = requests.args.page_size
    usable = len(tokens) // page * page
    users = [fresh_user("warm") for _ in range(2)]
    # One token more: of a prompt that ends with the prefix, the last one is never looked up.
    prompt = [*tokens, tokens[0]]
    try:
        await requests.count_cached(users[0], prompt, replica)
        found = await requests.count_cached(users[1], prompt, replica)
    except OwnRequestError as error:
        raise refused(
            409, "warm", f"{name} is registered, but cannot be computed: {error}"
        ) from None
    finally:
        await requests.erase(*users)
    if found < usable:
        raise refused(
            409,
            "warm",
            f"{name} is registered, but of its {usable} tokens only {found} are kept: the cache "
            "has no room; register less, or give the server more memory",
        )
