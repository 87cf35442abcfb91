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

import hashlib
import math
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sglang.srt.tenancy.cache.core.quota import CacheShares
from sglang.srt.tenancy.limits import LIMIT_FIELDS, Limits
from sglang.srt.tenancy.prefix_spec import (
    MAX_PREFIXES,
    PrefixSpec,
    PrefixSpecError,
    parse_prefix_spec,
)
from sglang.srt.tenancy.user_id import GATEWAY, PUBLIC, IdentityError, check_user_id

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

if TYPE_CHECKING:
    from sglang.srt.tenancy.flags import TenantOptions

_SHA256 = re.compile(r"[0-9a-f]{64}")


class ConfigError(ValueError):
    """A tenant config file that cannot be used: which file, which field, what to write."""


@dataclass(frozen=True, slots=True)
class TenantConfig:
    """Who holds which key, and what is public. Keys are kept as SHA-256 only."""

    holders: Mapping[str, str] = field(default_factory=dict)  # SHA-256 of key -> user or GATEWAY
    weights: Mapping[str, float] = field(default_factory=dict)
    require_key: bool = False
    public_prefixes: tuple[PrefixSpec, ...] = field(default=(), repr=False)
    limits: Mapping[str, Limits] = field(default_factory=dict)
    default_limits: Limits = field(default_factory=Limits)
    cache_shares: CacheShares = field(default_factory=CacheShares)

    def limits_of(self, user_id: str) -> Limits:
        return self.limits.get(user_id, self.default_limits)

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
        """Return what the file said when this process first asked. Raises ConfigError."""
        config = options.loaded_config()
        if config is None:
            config = cls.load(options.tenant_config) if options.tenant_config else cls()
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
    default = _limits(_table(data, "default"), "default")
    _only(_table(data, "default"), "default", "cache_share", *sorted(LIMIT_FIELDS))
    shares: dict[str, float] = {}
    holders: dict[str, str] = {}
    weights: dict[str, float] = {}
    limits: dict[str, Limits] = {}
    for user in _table(data, "users"):
        where = f"users.{user}"
        try:
            check_user_id(user, where)
        except IdentityError as error:
            raise ConfigError(str(error)) from None
        entry = _table(data["users"], user, where)
        _only(entry, where, "keys", "key_hashes", "weight", "cache_share", *sorted(LIMIT_FIELDS))
        _hold(holders, user, entry, where)
        weights[user] = _weight(entry.get("weight", 1.0), where)
        limits[user] = _limits(entry, where, default)
        if "cache_share" in entry:
            shares[user] = _share(entry["cache_share"], where)
    public = _table(data, "public")
    _only(public, "public", "weight")
    if "weight" in public:
        weights[PUBLIC] = _weight(public["weight"], "public")
    gateway = _table(data, "gateway")
    _only(gateway, "gateway", "keys", "key_hashes")
    _hold(holders, GATEWAY, gateway, "gateway")
    require = data.get("require_key", bool(holders))
    if not isinstance(require, bool):
        raise ConfigError(f"require_key: {require!r} is neither true nor false")
    if require and not holders:
        raise ConfigError("require_key: true, but no user has a key")
    return TenantConfig(
        holders,
        weights,
        require,
        _public_prefixes(data),
        limits,
        default,
        CacheShares(shares, _default_share(data)),
    )


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


def _limits(entry: dict[str, Any], where: str, default: Limits | None = None) -> Limits:
    try:
        return Limits.read(entry, where, default)
    except ValueError as error:
        raise ConfigError(str(error)) from None


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


def _default_share(data: dict[str, Any]) -> float | None:
    table = _table(data, "default")
    return _share(table["cache_share"], "default") if "cache_share" in table else None


def _share(value: Any, where: str) -> float:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if number and 0 < value <= 1:
        return float(value)
    raise ConfigError(
        f"{where}.cache_share: {value!r} is no share; give a number above 0, up to 1 (all of the "
        "cache), or leave it out"
    )


def _weight(value: Any, where: str) -> float:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if number and math.isfinite(value) and value > 0:
        return float(value)
    raise ConfigError(f"{where}.weight: {value!r} is no number above 0")
