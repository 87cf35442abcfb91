"""SIGHUP: read the config file again, in every HTTP process."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from sglang.srt.tenancy.config import ConfigError, TenantConfig
from sglang.srt.tenancy.control.messages import Refused
from sglang.srt.tenancy.http.identity import Resolver
from sglang.srt.tenancy.http.log import logger
from sglang.srt.tenancy.user_id import digest
from sglang.srt.tenancy.user_settings import DEFAULT


class Reloader:
    """Exchanges the config as a whole: users, keys, limits, and what the schedulers know of it
    (public prefixes, weights, shares), or nothing.

    ``publish``: makes a config the schedulers'; raises ConfigError. ``warm``: computes the prefixes
    that are to be; raises Refused.
    """

    def __init__(
        self,
        resolver: Resolver,
        path: str,
        publish: Callable[[TenantConfig], Awaitable[object]],
        warm: Callable[[TenantConfig], Awaitable[None]],
    ):
        self._resolver = resolver
        self._path = path
        self._publish = publish
        self._warm = warm
        self._one_at_a_time = asyncio.Lock()
        self._running: set[asyncio.Task[None]] = set()

    def hangup(self) -> None:
        """Handle the signal. Signals that come during a reload cause another one after it."""
        task = asyncio.get_running_loop().create_task(self._reload())
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _reload(self) -> None:
        async with self._one_at_a_time:
            try:
                config = TenantConfig.load(self._path)
                self._keep_out(config)
                await self._publish(config)
            except ConfigError as error:
                logger.error("Tenant config not reloaded, the old one stays: %s", error)
            else:
                # Kept up to date meanwhile, by what the schedulers tell.
                config = config.with_overrides(self._resolver.config.overrides)
                self._resolver.config = config
                logger.info("Tenant config reloaded: %d keys.", len(config.holders))
                warn_of_hidden(config)
                await self._compute(config)

    async def _compute(self, config: TenantConfig) -> None:
        try:
            await self._warm(config)
        except Refused as error:
            logger.error("Not all public prefixes are computed: %s", error)

    def _keep_out(self, config: TenantConfig) -> None:
        """Refuse a config that opens the server wider: a half-written file may be one."""
        old = self._resolver.config
        fault = None
        if old.has_keys and not config.has_keys:
            fault = "it lists no key, and would let everybody in"
        elif old.require_key and not config.require_key:
            fault = "require_key is off now: callers without a key would be whom they say they are"
        elif old.has_gateway and not config.has_gateway and self._resolver.header:
            fault = (
                "[gateway] lists no key any more: whoever sends no key could name users in "
                f"--tenant-header {self._resolver.header}"
            )
        if fault:
            raise ConfigError(
                f"--tenant-config {self._path}: {fault}; to do that, restart the server"
            )


def warn_of_hidden(config: TenantConfig) -> None:
    """Say which settings made at run time do not count, because the file has them."""
    for user, names in config.hidden().items():
        logger.warning(
            "%s of %s: set at run time, but --tenant-config sets it too, and counts.",
            ", ".join(names),
            user if user == DEFAULT else f"user #{digest(user)}",
        )
