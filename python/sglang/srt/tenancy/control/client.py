"""Send control requests for the operators' endpoints and the config file of one HTTP process."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from sglang.srt.tenancy.config import ConfigError, TenantConfig
from sglang.srt.tenancy.control.channel import connect
from sglang.srt.tenancy.control.messages import (
    Configure,
    ControlRequest,
    Notice,
    Prefix,
    Publish,
    Refused,
    refused,
)
from sglang.srt.tenancy.control.prefix_tokenizer import PrefixTokenizer
from sglang.srt.tenancy.prefix_spec import PrefixSpec, PrefixSpecError
from sglang.srt.tenancy.user_settings import UserSettings

if TYPE_CHECKING:
    from fastapi import FastAPI

T = TypeVar("T", bound=Notice)

_WHY_NOT = {
    "isolated": "nothing is public in --tenant-mode isolated",
    "shared": "everything is public in --tenant-mode shared",
}


class ControlClient:
    """Tokenizes prefixes and asks the schedulers. ``app`` serves the model of ``manager``."""

    def __init__(self, app: FastAPI, manager: Any):
        self.mode: str = manager.server_args.tenant_mode
        self.model: str = manager.served_model_name
        self.plain_ids: bool = manager.server_args.tenant_metrics_plain_ids
        self.manager = manager
        self._tokenizer = PrefixTokenizer(app, manager)
        self._listeners: dict[type[Any], Callable[[Any], None]] = {}
        self._channel = connect(manager, self._notify)

    def on(self, notice: type[T], take: Callable[[T], None]) -> None:
        """Have this kind of notice, which the schedulers send to every HTTP process, taken."""
        self._listeners[notice] = take

    def _notify(self, notice: Notice) -> None:
        if type(notice) in self._listeners:
            self._listeners[type(notice)](notice)

    async def ask(self, request: ControlRequest) -> list[dict[str, Any]]:
        """Ask the schedulers; each replica's answer. Raises Refused."""
        return await self._channel.ask(request)

    def tell(self, request: ControlRequest) -> None:
        """Have every replica carry out a request that none refuses."""
        self._channel.tell(request)

    async def publish(self, source: PrefixSpec) -> tuple[Prefix, dict[str, Any]]:
        """Register a prefix for an operator's request. Returns it, and what is to be said of it.
        Raises Refused, PrefixSpecError."""
        self.require_selective()
        prefix = await self._tokenizer.tokenize(source)
        answers = await self.ask(Publish(prefix))
        return prefix, answers[0]

    async def tokenize(self, sources: Sequence[PrefixSpec]) -> list[Prefix]:
        """Tokenize the config file's prefixes. Raises ConfigError."""
        prefixes = []
        for number, source in enumerate(sources):
            try:
                prefixes.append(await self._tokenizer.tokenize(source))
            except PrefixSpecError as error:
                raise ConfigError(f"public_prefixes[{number}].{error}") from None
        return prefixes

    async def configure(self, config: TenantConfig) -> TenantConfig:
        """Make the file's prefixes, weights and shares the schedulers'. Returns it with what was
        set at run time. Raises ConfigError; then nothing has changed."""
        if config.public_prefixes and self.mode in _WHY_NOT:
            raise ConfigError(f"public_prefixes: {_WHY_NOT[self.mode]}; take them out")
        if config.cache_shares and self.mode == "shared":
            raise ConfigError(
                "cache_share: in --tenant-mode shared nothing is anybody's own; take it out"
            )
        # Also sent without any: a scheduler that does not know our messages shows at start-up.
        prefixes = await self.tokenize(config.public_prefixes)
        try:
            users = dict(config.users)
            answers = await self.ask(Configure(prefixes, users, config.public_weight))
        except Refused as error:
            raise ConfigError(str(error)) from None
        overrides = msgspec.convert(answers[0]["overrides"], dict[str, UserSettings])
        return config.with_overrides(overrides)

    def require_selective(self) -> None:
        """Raises Refused 409 in a mode that has no use for public prefixes."""
        if self.mode in _WHY_NOT:
            why = _WHY_NOT[self.mode]
            raise refused(409, "tenant_mode", f"{why}; start with --tenant-mode selective")


def control_client_of(app: FastAPI) -> ControlClient:
    """Return the control client of this process, made on first use."""
    if not hasattr(app.state, "tenant_control"):
        from sglang.srt.entrypoints.http_server import get_global_state

        app.state.tenant_control = ControlClient(app, get_global_state().tokenizer_manager)
    client: ControlClient = app.state.tenant_control
    return client
