"""How much one user may ask for at a time, and per minute, as the config file says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any


@dataclass(frozen=True, slots=True)
class Limits:
    """A user's limits; None is no limit.

    ``max_running``: prompts inside the engine at a time. ``max_queued``: further ones that
    wait for that before they enter it. ``tokens_per_minute``: of prompts and answers together.
    """

    max_running: int | None = None
    max_queued: int | None = None
    tokens_per_minute: int | None = None

    @classmethod
    def read(cls, entry: Mapping[str, Any], where: str, default: Limits | None = None) -> Limits:
        """Read a table of the config file. Raises ValueError that names the field."""
        values = {name: getattr(default, name, None) for name in LIMIT_FIELDS}
        for name in LIMIT_FIELDS & entry.keys():
            value, least = entry[name], 0 if name == "max_queued" else 1
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ValueError(f"{where}.{name}: {value!r} is no whole number from {least} on")
            values[name] = value
        if values["max_queued"] is not None and values["max_running"] is None:
            raise ValueError(f"{where}.max_queued: it counts who waits for max_running; set that")
        return cls(**values)

    def share(self, processes: int) -> Limits:
        """Return what one of several processes grants."""
        own = {
            name: None if (limit := getattr(self, name)) is None else -(-limit // processes)
            for name in LIMIT_FIELDS
        }
        return Limits(**own)


LIMIT_FIELDS = {entry.name for entry in fields(Limits)}
