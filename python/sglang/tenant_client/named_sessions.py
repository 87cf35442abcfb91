"""What sessions are, whoever asks: a table of names, and a file."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Generic, TypeVar

from .options import Options, check_options
from .session_file import load, save
from .session_state import Bounds, SessionState
from .session_table import SessionTable
from .warming import Warmth

S = TypeVar("S")
Names = list[str]
States = list[SessionState]


class NamedSessions(Generic[S]):
    """All sessions of a client, by name. ``S``: what a caller holds of one."""

    def __init__(self) -> None:
        self.table = SessionTable()
        self._handles: dict[str, S] = {}  # by key

    def get(self, name: str) -> S:
        """Return a session. Raises NoSession."""
        return self._handle(self.table.get(name))

    def fork(self, name: str, new_name: str) -> S:
        """Begin a session with the conversation of another, as of its last complete turn.

        Raises NoSession and SessionExists.
        """
        return self._handle(self.table.fork(name, new_name, time.time()))

    def list(self) -> States:
        """Return all sessions, last used first."""
        return self.table.list()

    def delete(self, name: str) -> None:
        """Forget a session; a turn that is under way is still answered. Raises NoSession."""
        self._handles.pop(self.table.delete(name).key, None)

    def cleanup(self, max_age: float) -> Names:
        """Forget what was not used for more than so many seconds; return its names."""
        gone = self.table.cleanup(max_age, time.time())
        for state in gone:
            self._handles.pop(state.key, None)
        return [state.name for state in gone]

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write all sessions to a file that only its owner can read, whole or not at all."""
        save(Path(path), self.table.list())

    def load(self, path: str | os.PathLike[str], *, replace: bool = False) -> Names:
        """Add a file's sessions, all or none; return their names.

        ``replace``: those of the same name go. Raises SessionExists, BadArgument, OSError.
        """
        states = load(Path(path))
        self.table.add(*states, replace=replace)
        return [state.name for state in states]

    def _begin(
        self, name: str, system: str | None, bounds: Bounds, options: Options | None
    ) -> SessionState:
        now = time.time()
        chosen = check_options(options or {})
        state = SessionState(name, system, bounds=bounds, options=chosen, created=now, used=now)
        self.table.add(state)
        return state

    def _handle(self, state: SessionState, warmth: Warmth | None = None) -> S:
        # Another thread may have made one meanwhile: all must hold the same, with the same lock.
        return self._handles.setdefault(state.key, self._make(state, warmth))

    def _make(self, state: SessionState, warmth: Warmth | None) -> S:
        raise NotImplementedError
