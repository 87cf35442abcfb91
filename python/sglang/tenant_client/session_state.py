"""A conversation: what was said, what of it is sent next. Nothing here changes in place."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from .errors import BadArgument

Message = dict[str, str]

_LONGEST_NAME = 128


@dataclass(frozen=True)
class Turn:
    """What the user said and what was answered.

    ``tokens``: by how much it made the conversation longer. ``prompt_tokens``,
    ``completion_tokens``: of its request. None: the server did not say.
    """

    user: str
    assistant: str
    tokens: int | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None

    @property
    def total(self) -> int | None:
        """Tokens of the conversation after it."""
        if self.prompt_tokens is None or self.completion_tokens is None:
            return None
        return self.prompt_tokens + self.completion_tokens


@dataclass(frozen=True)
class Bounds:
    """How long a history may become. The oldest turns go, whole; the system prompt stays.

    ``turns``, ``tokens``: at most so many, or None. ``keep``: the share of the bound that is left
    when it is reached: what remains after a cut is a new prefix for the server, so cuts are few.
    """

    turns: int | None = None
    tokens: int | None = None
    keep: float = 0.5

    def __post_init__(self) -> None:
        """Raise BadArgument for a bound that nothing could meet."""
        for name in ("turns", "tokens"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise BadArgument(f"history_{name}", f"{value} is less than one; None is no bound")
        if not 0 <= self.keep <= 1:
            raise BadArgument("keep", f"{self.keep} is no share; give a number from 0 to 1")

    def first_kept(self, turns: tuple[Turn, ...]) -> int:
        """Return the index of the oldest turn that is sent with a new one."""
        first = 0
        if self.turns is not None and len(turns) >= self.turns:
            first = len(turns) - min(int(self.turns * self.keep), self.turns - 1)
        total = turns[-1].total if turns else None
        if self.tokens is not None and total is not None and total > self.tokens:
            total -= sum(turn.tokens or 0 for turn in turns[:first])
            while first < len(turns) and total > self.tokens * self.keep:
                total -= turns[first].tokens or 0
                first += 1
        return first


@dataclass(frozen=True)
class SessionState:
    """``key``: stays when the session goes on, is another one for any other session.

    ``options``: sent with every turn. ``created``, ``used``: seconds since 1970.
    """

    name: str
    system: str | None = None
    turns: tuple[Turn, ...] = ()
    bounds: Bounds = field(default_factory=Bounds)
    options: Mapping[str, Any] = field(default_factory=dict)
    created: float = 0.0
    used: float = 0.0
    forked_from: str | None = None
    key: str = field(default_factory=lambda: uuid.uuid4().hex)

    def __post_init__(self) -> None:
        """Raise BadArgument for what could not be saved."""
        check_name(self.name)
        try:
            json.dumps(dict(self.options), allow_nan=False)
        except (TypeError, ValueError) as error:
            raise BadArgument("options", f"cannot be saved as JSON: {error}") from None

    def fork(self, name: str, now: float) -> SessionState:
        """Return another session that begins with the same conversation."""
        return replace(
            self, name=name, created=now, used=now, forked_from=self.name, key=uuid.uuid4().hex
        )

    def messages(self, turns: tuple[Turn, ...] | None = None) -> list[Message]:
        """Return the conversation, or the system prompt and these turns of it, as chat messages."""
        messages = [] if self.system is None else [message("system", self.system)]
        for turn in self.turns if turns is None else turns:
            messages += [message("user", turn.user), message("assistant", turn.assistant)]
        return messages


@dataclass(frozen=True)
class Plan:
    """What a turn sends. ``kept``: the turns before it that are sent."""

    state: SessionState
    text: str
    kept: tuple[Turn, ...]

    @property
    def dropped(self) -> int:
        """How many of the oldest turns go with this one."""
        return len(self.state.turns) - len(self.kept)

    @property
    def messages(self) -> list[Message]:
        """What is sent."""
        return [*self.state.messages(self.kept), message("user", self.text)]

    def after(
        self, answer: str, prompt_tokens: int | None, completion_tokens: int | None, now: float
    ) -> SessionState:
        """Return the session once the answer is complete."""
        turn = Turn(self.text, answer, None, prompt_tokens, completion_tokens)
        turn = replace(turn, tokens=self._growth(turn))
        return replace(self.state, turns=(*self.kept, turn), used=now)

    def _growth(self, turn: Turn) -> int | None:
        if turn.total is None:
            return None
        before = self.kept[-1].total if self.kept else None
        if before is None or self.dropped:
            before = self._system_tokens(turn) + sum(known.tokens or 0 for known in self.kept)
        return max(0, turn.total - before)

    def _system_tokens(self, turn: Turn) -> int:
        """Estimate the system prompt's tokens by its share of all letters."""
        system = len(self.state.system or "")
        letters = system + sum(
            len(known.user) + len(known.assistant) for known in (*self.kept, turn)
        )
        return round((turn.total or 0) * system / letters) if letters else 0


def plan(state: SessionState, text: str) -> Plan:
    """Decide what a turn sends. Raises BadArgument for a text that is empty."""
    if not text:
        raise BadArgument("text", "is empty; say something")
    return Plan(state, text, state.turns[state.bounds.first_kept(state.turns) :])


def message(role: str, content: str) -> Message:
    """Return one chat message."""
    return {"role": role, "content": content}


def check_name(name: str) -> str:
    """Return the name of a session. Raises BadArgument where it is none."""
    if not 1 <= len(name) <= _LONGEST_NAME or not name.isprintable() or name != name.strip():
        raise BadArgument(
            "name",
            f"{name[:48]!r} is no name; give 1 to {_LONGEST_NAME} visible characters",
        )
    return name
