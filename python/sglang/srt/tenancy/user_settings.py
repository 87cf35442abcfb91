"""What an operator may set for one user, or for all others: in the config file, or at run time."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from sglang.srt.tenancy.limits import LIMIT_FIELDS, Limits

# In place of a user's id: everybody who is not named. No user id is like that.
DEFAULT = "[default]"


class SettingsError(ValueError):
    """A setting that cannot be used. ``field``: which one."""

    def __init__(self, field: str, problem: str):
        super().__init__(f"{field}: {problem}")
        self.field = field


@dataclass(frozen=True, slots=True)
class UserSettings:
    """None is not set: what holds for everybody then holds.

    ``weight``: share of memory and service, above 0. ``cache_share``: of the KV cache, above 0, up
    to 1. The others: see ``limits.py``.
    """

    weight: float | None = None
    max_running: int | None = None
    max_queued: int | None = None
    tokens_per_minute: int | None = None
    cache_share: float | None = None

    @classmethod
    def read(cls, entry: Mapping[str, Any]) -> UserSettings:
        """Read the fields that are there. Raises SettingsError."""
        for name in entry:
            if name not in FIELDS:
                known = ", ".join(FIELDS)
                raise SettingsError(name, f"not a field here; known are {known}")
        values: dict[str, Any] = {name: _READ[name](name, v) for name, v in entry.items()}
        return cls(**values)

    def given(self) -> dict[str, int | float]:
        """Return what is set."""
        values = {name: getattr(self, name) for name in FIELDS}
        return {name: value for name, value in values.items() if value is not None}

    def over(self, others: UserSettings) -> UserSettings:
        """Return these, and where they are not set, the others."""
        return replace(others, **self.given())  # type: ignore[arg-type]

    @property
    def limits(self) -> Limits:
        return Limits(self.max_running, self.max_queued, self.tokens_per_minute)

    def check(self) -> None:
        """Raise SettingsError where they make no sense together."""
        if self.max_queued is not None and self.max_running is None:
            raise SettingsError("max_queued", "it counts who waits for max_running; set that too")


FIELDS = tuple(entry.name for entry in fields(UserSettings))


def _read_count(name: str, value: Any) -> int:
    least = 0 if name == "max_queued" else 1
    if type(value) is int and least <= value < 2**53:
        return value
    raise SettingsError(name, f"{_short(value)} is no whole number from {least} on")


def _read_weight(name: str, value: Any) -> float:
    if _is_number(value) and math.isfinite(value) and value > 0:
        return float(value)
    raise SettingsError(name, f"{_short(value)} is no number above 0")


def _read_share(name: str, value: Any) -> float:
    if _is_number(value) and 0 < value <= 1:
        return float(value)
    raise SettingsError(
        name,
        f"{_short(value)} is no share; give a number above 0, up to 1 (all of the cache), or leave "
        "it out",
    )


_READ = {
    **dict.fromkeys(LIMIT_FIELDS, _read_count),
    "weight": _read_weight,
    "cache_share": _read_share,
}


def _is_number(value: Any) -> bool:
    return type(value) is float or (type(value) is int and abs(value) < 2**53)


def _short(value: Any) -> str:
    shown = repr(value)
    return shown if len(shown) <= 48 else f"{shown[:48]}…"
