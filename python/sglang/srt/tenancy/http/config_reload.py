"""SIGHUP: read the config file again, in every HTTP process."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from sglang.srt.tenancy.config import ConfigError, TenantConfig
from sglang.srt.tenancy.http.identity import Resolver
from sglang.srt.tenancy.http.log import logger


class Reloader:
    """Exchanges the config as a whole: users, keys, limits, and what the schedulers know of it
    (public prefixes, weights, shares), or nothing.

    ``publish``: makes a config the schedulers'; raises ConfigError.
    """

    def __init__(
        self, resolver: Resolver, path: str, publish: Callable[[TenantConfig], Awaitable[None]]
    ):
        self._resolver = resolver
        self._path = path
        self._publish = publish
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
                self._resolver.config = config
                logger.info("Tenant config reloaded: %d keys.", len(config.holders))

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
