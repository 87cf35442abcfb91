"""All sessions of a client, by name."""

from __future__ import annotations

import threading
from collections.abc import Iterable

from .errors import NoSession, SessionExists
from .session_state import SessionState

States = list[SessionState]


class SessionTable:
    """Any thread may call any of it."""

    def __init__(self) -> None:
        self._states: dict[str, SessionState] = {}
        self._lock = threading.Lock()

    def add(self, *states: SessionState, replace: bool = False) -> None:
        """Add all of them, or none.

        ``replace``: those that are there go. Raises SessionExists for one that is, or comes twice.
        """
        with self._lock:
            names: set[str] = set()
            for state in states:
                if state.name in names or (state.name in self._states and not replace):
                    raise SessionExists(state.name)
                names.add(state.name)
            self._states.update((state.name, state) for state in states)

    def get(self, name: str, key: str | None = None) -> SessionState:
        """Return the session. Raises NoSession where there is none, or not the one of that key."""
        with self._lock:
            return self._get(name, key)

    def _get(self, name: str, key: str | None = None) -> SessionState:
        state = self._states.get(name)
        if state is None or (key is not None and state.key != key):
            raise NoSession(name)
        return state

    def update(self, state: SessionState) -> None:
        """Put the session as it is now in place of what it was; nothing where that is gone."""
        with self._lock:
            known = self._states.get(state.name)
            if known is not None and known.key == state.key:
                self._states[state.name] = state

    def fork(self, name: str, new_name: str, now: float) -> SessionState:
        """Add a session that begins as the one of that name is now, and return it."""
        with self._lock:
            if new_name in self._states:
                self._get(name)
                raise SessionExists(new_name)
            state = self._get(name).fork(new_name, now)
            self._states[new_name] = state
            return state

    def delete(self, name: str) -> SessionState:
        """Take the session out, and return it."""
        with self._lock:
            state = self._get(name)
            del self._states[name]
            return state

    def discard(self, state: SessionState) -> None:
        """Take this very session out, where it is still there."""
        with self._lock:
            known = self._states.get(state.name)
            if known is not None and known.key == state.key:
                del self._states[state.name]

    def cleanup(self, max_age: float, now: float) -> States:
        """Take out what was not used for more than ``max_age`` seconds, and return it."""
        with self._lock:
            old = [state for state in self._states.values() if now - state.used > max_age]
            for state in old:
                del self._states[state.name]
            return old

    def list(self) -> States:
        """Return all sessions, last used first."""
        with self._lock:
            states: Iterable[SessionState] = list(self._states.values())
        return sorted(states, key=lambda state: (-state.used, state.name))
