"""The file behind ``--tenant-config``: users, their keys, their weights.

require_key = true            # default: true as soon as a key is listed

[users.alice]
keys = ["sk-alice"]           # or key_hashes = ["<SHA-256 of the key, 64 hex digits>"]
weight = 2.0                  # share of memory and service, default 1
max_running = 8               # limits (limits.py): of a user, or in [default] of all
max_queued = 32
tokens_per_minute = 60_000
cache_share = 0.25            # of the KV cache (cache/quota.py), here or in [default]

[public]
weight = 1.0                  # share of memory of what is public, against all users together

[gateway]                     # who holds one of these names the user in --tenant-header
keys = ["sk-gateway"]

[[public_prefixes]]           # what everybody may share; only in --tenant-mode selective
name = "assistant"
messages = [{role = "system", content = "You are a helpful assistant."}]   # or text, input_ids
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sglang.srt.tenancy.cache.core.quota import CacheShares
from sglang.srt.tenancy.limits import Limits
from sglang.srt.tenancy.prefix_spec import (
    MAX_PREFIXES,
    PrefixSpec,
    PrefixSpecError,
    parse_prefix_spec,
)
from sglang.srt.tenancy.state_file import StateFile
from sglang.srt.tenancy.user_id import GATEWAY, PUBLIC, IdentityError, check_user_id
from sglang.srt.tenancy.user_settings import DEFAULT, SettingsError, UserSettings

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

if TYPE_CHECKING:
    from sglang.srt.tenancy.flags import TenantOptions

_SHA256 = re.compile(r"[0-9a-f]{64}")
_KEY_FIELDS = ("keys", "key_hashes")
_NOTHING = UserSettings()


class ConfigError(ValueError):
    """A tenant config file that cannot be used: which file, which field, what to write."""


@dataclass(frozen=True)
class TenantConfig:
    """Who holds which key, who gets how much, and what is public. Keys are kept as SHA-256 only.

    ``users``: what the file sets for each user in it, and under DEFAULT for all others.
    ``overrides``: what was set at run time, by user or DEFAULT; what the file sets counts instead.
    """

    holders: Mapping[str, str] = field(default_factory=dict)  # SHA-256 of key -> user or GATEWAY
    require_key: bool = False
    public_prefixes: tuple[PrefixSpec, ...] = field(default=(), repr=False)
    users: Mapping[str, UserSettings] = field(default_factory=dict)
    public_weight: float | None = None
    overrides: Mapping[str, UserSettings] = field(default_factory=dict, repr=False)

    def settings_of(self, user: str) -> UserSettings:
        """Return what holds for a user, or for all others (DEFAULT)."""
        settings = self._own(user)
        return settings if user == DEFAULT else settings.over(self._default)

    def limits_of(self, user_id: str) -> Limits:
        own = self._named.get(user_id)
        return self._default.limits if own is None else own.over(self._default).limits

    def with_overrides(self, overrides: Mapping[str, UserSettings]) -> TenantConfig:
        """Return the same file with these overrides."""
        return replace(self, overrides=dict(overrides))

    def overridden(self, user: str, settings: UserSettings | None) -> TenantConfig:
        """Return the same with one user's override (or DEFAULT's) exchanged, or taken away."""
        others = {name: known for name, known in self.overrides.items() if name != user}
        return self.with_overrides(others if settings is None else others | {user: settings})

    def hidden(self) -> dict[str, list[str]]:
        """Return, by user or DEFAULT, what was set at run time and does not count: the file sets
        it too."""
        both = {
            user: sorted(override.given().keys() & self.in_file(user).given().keys())
            for user, override in self.overrides.items()
        }
        return {user: names for user, names in both.items() if names}

    def in_file(self, user: str) -> UserSettings:
        """Return what the file itself sets for a user, or under DEFAULT."""
        return self.users.get(user, _NOTHING)

    def _own(self, user: str) -> UserSettings:
        return self.in_file(user).over(self.overrides.get(user, _NOTHING))

    @cached_property
    def _default(self) -> UserSettings:
        return self._own(DEFAULT)

    @cached_property
    def _named(self) -> dict[str, UserSettings]:
        """What is set for each user who is named; made in milliseconds for 100,000 of them."""
        named = {**self.users, **{user: self._own(user) for user in self.overrides}}
        named.pop(DEFAULT, None)
        return named

    @cached_property
    def weights(self) -> dict[str, float]:
        """Owner -> weight, of all who are named; that of what is public under PUBLIC."""
        weights = {user: own.weight or 1.0 for user, own in self._named.items()}
        return weights if self.public_weight is None else weights | {PUBLIC: self.public_weight}

    @cached_property
    def cache_shares(self) -> CacheShares:
        shares = {user: own.cache_share for user, own in self._named.items()}
        given = {user: share for user, share in shares.items() if share is not None}
        return CacheShares(given, self._default.cache_share)

    @property
    def has_keys(self) -> bool:
        return bool(self.holders)

    @property
    def has_gateway(self) -> bool:
        return GATEWAY in self.holders.values()

    def holder_of(self, key: str) -> str | None:
        # Looked up by hash, so the time taken says nothing about the keys.
        return self.holders.get(_sha256(key))

    def user_has_key(self, user_id: str) -> bool:
        return user_id in self.holders.values()

    @classmethod
    def of(cls, options: TenantOptions) -> TenantConfig:
        """Return what the files said when this process first asked. Raises ConfigError and
        StateError."""
        config = options.loaded_config()
        if config is None:
            config = cls.load(options.tenant_config) if options.tenant_config else cls()
            if options.tenant_state:
                with contextlib.closing(StateFile(options.tenant_state)) as state:
                    config = config.with_overrides(state.load())
            options.keep_config(config)
        return config

    @classmethod
    def load(cls, path: str) -> TenantConfig:
        """Read and check the whole file. Raises ConfigError; never half a config."""
        try:
            return _parse(tomllib.loads(Path(path).read_text(encoding="utf-8")))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, ConfigError) as error:
            raise ConfigError(f"--tenant-config {path}: {error}") from None


def _parse(data: dict[str, Any]) -> TenantConfig:
    _only(data, "", "require_key", "users", "default", "gateway", "public", "public_prefixes")
    holders: dict[str, str] = {}
    users: dict[str, UserSettings] = {}
    if "default" in data:
        default = dict(_table(data, "default"))
        if "weight" in default:
            raise ConfigError("default.weight: it is 1 for everybody who is not named; take it out")
        users[DEFAULT] = _settings(default, "default")
    for user in _table(data, "users"):
        where = f"users.{user}"
        try:
            check_user_id(user, where)
        except IdentityError as error:
            raise ConfigError(str(error)) from None
        entry = _table(data["users"], user, where)
        _hold(holders, user, entry, where)
        own = {name: value for name, value in entry.items() if name not in _KEY_FIELDS}
        users[user] = _settings(own, where, users.get(DEFAULT))
    public = _table(data, "public")
    _only(public, "public", "weight")
    gateway = _table(data, "gateway")
    _only(gateway, "gateway", *_KEY_FIELDS)
    _hold(holders, GATEWAY, gateway, "gateway")
    require = data.get("require_key", bool(holders))
    if not isinstance(require, bool):
        raise ConfigError(f"require_key: {require!r} is neither true nor false")
    if require and not holders:
        raise ConfigError("require_key: true, but no user has a key")
    return TenantConfig(
        holders,
        require,
        _public_prefixes(data),
        users,
        _settings(public, "public").weight,
    )


def _settings(
    entry: Mapping[str, Any], where: str, default: UserSettings | None = None
) -> UserSettings:
    """Read a table's settings; together with the default ones they must make sense."""
    try:
        settings = UserSettings.read(entry)
        settings.over(default or _NOTHING).check()
    except SettingsError as error:
        raise ConfigError(f"{where}.{error}") from None
    return settings


def _public_prefixes(data: dict[str, Any]) -> tuple[PrefixSpec, ...]:
    tables = data.get("public_prefixes", [])
    if not (isinstance(tables, list) and all(isinstance(table, dict) for table in tables)):
        raise ConfigError("public_prefixes: write one [[public_prefixes]] table for each")
    if len(tables) > MAX_PREFIXES:
        raise ConfigError(f"public_prefixes: {len(tables)} of them; {MAX_PREFIXES} are the most")
    sources: dict[str, PrefixSpec] = {}
    for number, table in enumerate(tables):
        where = f"public_prefixes[{number}]"
        try:
            source = parse_prefix_spec(table)
        except PrefixSpecError as error:
            raise ConfigError(f"{where}.{error}") from None
        if source.name is None:
            raise ConfigError(f"{where}.name: missing; reloads tell prefixes apart by their names")
        if source.name in sources:
            raise ConfigError(f"{where}.name: {source.name!r} is there twice; choose another")
        sources[source.name] = source
    return tuple(sources.values())


def _sha256(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


def _table(data: dict[str, Any], name: str, where: str = "") -> dict[str, Any]:
    table = data.get(name, {})
    if not isinstance(table, dict):
        raise ConfigError(f"{where or name}: {table!r} is no table; write [{where or name}]")
    return table


def _only(data: dict[str, Any], where: str, *allowed: str) -> None:
    for name in data:
        if name not in allowed:
            full = f"{where}.{name}" if where else name
            raise ConfigError(f"{full}: not a field here; known are {', '.join(allowed)}")


def _keys(entry: dict[str, Any], where: str) -> list[str]:
    keys = _strings(entry, "keys", where)
    for key in keys:
        if not (key.isascii() and key.isprintable() and key == key.strip()):
            raise ConfigError(f"{where}.keys: a key goes into a header: printable ASCII only")
    return keys


def _strings(entry: dict[str, Any], name: str, where: str) -> list[str]:
    values = entry.get(name, [])
    if isinstance(values, list) and all(isinstance(v, str) and v for v in values):
        return values
    raise ConfigError(f"{where}.{name}: write a list of non-empty strings")


def _hold(holders: dict[str, str], user: str, entry: dict[str, Any], where: str) -> None:
    hashes = _strings(entry, "key_hashes", where)
    for value in hashes:
        if not _SHA256.fullmatch(value):
            raise ConfigError(f"{where}.key_hashes: {value[:12]!r}… is no SHA-256 in hex")
    for key_hash in [*map(_sha256, _keys(entry, where)), *hashes]:
        if holders.setdefault(key_hash, user) != user:
            raise ConfigError(f"{where}: one of its keys already belongs to somebody else")
