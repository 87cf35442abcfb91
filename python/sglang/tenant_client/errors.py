"""What can go wrong that is not an error of the ``openai`` client."""

from __future__ import annotations


class ClientError(Exception):
    """The base of the client's own errors."""


class BadArgument(ClientError, ValueError):
    """An argument or a file holds what cannot be. ``field``: which."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field = field


class NoSession(ClientError, LookupError):
    """There is no session of that name, or it was deleted."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"name: no session is called {name!r}; sessions.list() says which are there"
        )
        self.name = name


class SessionExists(ClientError):
    """There is a session of that name already."""

    def __init__(self, name: str) -> None:
        super().__init__(f"name: a session is called {name!r} already; delete it or take another")
        self.name = name


class TurnOpen(ClientError):
    """A turn was begun inside another of the same session, which would wait for itself."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"name: a turn of session {name!r} is open here; leave its `with` block first, or fork"
        )
        self.name = name


class BrokenAnswer(ClientError):
    """An answer began and did not end well; the session is as before the turn."""


class NotReady(ClientError, TimeoutError):
    """The server was not ready in time."""


class Refused(ClientError):
    """The server refused one of the client's own requests. ``status``: None if not reached."""

    def __init__(self, what: str, status: int | None, fault: str) -> None:
        super().__init__(f"{what}: {fault if status is None else f'{status}: {fault}'}")
        self.status = status
