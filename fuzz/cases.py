"""What is sent: one HTTP request, and perhaps others that follow from its answer.

A case is written to found.jsonl as it is, so that it can be sent again.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

# Two who attack, the second one with limits.
MALLORY, MORGAN = "mallory", "morgan"
# In a later step: what the first step's answer names (a session, a response).
NAMED = "$NAMED"

# How the server learns where a body ends. Behind WHOLE the request is no whole one, or no HTTP.
WHOLE = ("length", "chunked", "pieces", "expect", "1.0", "twice", "none")
CHUNKED = ("chunked", "both", "bad chunk", "late bad chunk", "endless")
BROKEN = (
    *("short", "long", "both", "bad chunk", "late bad chunk", "endless", "negative"),
    *("two lengths", "no HTTP"),
)


@dataclass(frozen=True)
class Case:
    """One request.

    ``body``: JSON, or None for no body; ``raw``: another body, its bytes as latin-1. ``headers``:
    beside the ordinary ones, or instead of those of the same name. ``framing``: one of WHOLE or
    BROKEN. ``leaves``: seconds after which the client hangs up. ``then``: sent afterwards, one
    by one.
    """

    path: str
    body: Any = None
    method: str = "POST"
    raw: str | None = None
    headers: tuple[tuple[str, str], ...] = ()
    framing: str = "length"
    leaves: float | None = None
    user: str = MALLORY
    then: tuple[Case, ...] = ()

    @property
    def answer_is_due(self) -> bool:
        """Whether a client could rely on an answer."""
        return self.framing in WHOLE and self.leaves is None and "\n" not in self.path

    @property
    def in_background(self) -> bool:
        """Whether it may be answered while nobody waits for it."""
        return isinstance(self.body, dict) and bool(self.body.get("background"))

    def steps(self) -> Iterator[Case]:
        """List the request and those that follow it."""
        yield self
        for step in self.then:
            yield from step.steps()

    def following(self, named: str) -> tuple[Case, ...]:
        """Return the steps after this one, with what its answer names."""
        return tuple(step.with_name(named) for step in self.then)

    def with_name(self, named: str) -> Case:
        """Put a name where the case leaves it open."""
        text = json.dumps(self.body).replace(NAMED, json.dumps(named)[1:-1])
        return dataclasses.replace(
            self, path=self.path.replace(NAMED, named), body=json.loads(text)
        )

    def without_defaults(self) -> dict[str, Any]:
        """Return what makes the case another than an ordinary one, as JSON."""
        entry: dict[str, Any] = {"path": self.path}
        for field in dataclasses.fields(self)[1:]:
            value = getattr(self, field.name)
            if value != field.default:
                entry[field.name] = value
        if self.then:
            entry["then"] = [step.without_defaults() for step in self.then]
        return entry


def read(entry: dict[str, Any]) -> Case:
    """Read what ``without_defaults`` wrote."""
    fields = dict(entry)
    fields["headers"] = tuple((name, value) for name, value in entry.get("headers", ()))
    fields["then"] = tuple(map(read, entry.get("then", ())))
    return Case(**fields)
