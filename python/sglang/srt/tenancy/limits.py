"""How much one user may ask for at a time, and per minute."""

from __future__ import annotations

from dataclasses import dataclass, fields


@dataclass(frozen=True, slots=True)
class Limits:
    """A user's limits; None is no limit.

    ``max_running``: prompts inside the engine at a time. ``max_queued``: further ones that
    wait for that before they enter it. ``tokens_per_minute``: of prompts and answers together.
    """

    max_running: int | None = None
    max_queued: int | None = None
    tokens_per_minute: int | None = None

    def share(self, processes: int) -> Limits:
        """Return what one of several processes grants."""
        own = {
            name: None if (limit := getattr(self, name)) is None else -(-limit // processes)
            for name in LIMIT_FIELDS
        }
        return Limits(**own)


LIMIT_FIELDS = {entry.name for entry in fields(Limits)}
