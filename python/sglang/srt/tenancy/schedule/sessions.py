"""Sessions that nobody closes: where there are too many, the one used longest ago is closed.

By the order of requests, not by a clock: every rank closes the same one between the same two.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sglang.srt.session.session_controller import Session, SessionController

MOST = 4096  # sessions of all users
MOST_OF_ONE = 256  # of one user


class RecentSessions(OrderedDict[str, "Session"]):
    """Upstream's sessions by name, the one used longest ago first, and how many a user has."""

    def __init__(self) -> None:
        self.held: Counter[str] = Counter()
        super().__init__()

    def get(self, name: str, default: Any = None) -> Any:
        """Return what a request goes on with; upstream asks so."""
        if name in self:
            self.move_to_end(name)
        return super().get(name, default)

    def __setitem__(self, name: str, session: Session) -> None:
        if name not in self:
            self.held[owner_of(name)] += 1
        super().__setitem__(name, session)

    def __delitem__(self, name: str) -> None:
        super().__delitem__(name)
        owner = owner_of(name)
        self.held[owner] -= 1
        if not self.held[owner]:
            del self.held[owner]


def owner_of(name: str) -> str:
    """Return the hash of the user, which a session's name begins with inside the server."""
    return name.partition(".")[0]


def install() -> None:
    """Hook in through upstream's registry, as ``scheduler_handler.install``."""
    from sglang.srt.plugins.hook_registry import HookRegistry, HookSource, HookType

    HookRegistry.register(
        "sglang.srt.managers.scheduler.Scheduler.open_session",
        _opened,
        HookType.AFTER,
        source=HookSource("tenancy", "sglang"),
    )


def _opened(_: Any, scheduler: Any, request: Any) -> None:
    if scheduler.server_args.enable_tenant_cache:
        close_unused(scheduler.session_controller, request.session_id)


def close_unused(controller: SessionController, opened: str) -> None:
    """Close what is too much since this session was opened, unless it has a request."""
    if not isinstance(controller.sessions, RecentSessions):
        sessions = RecentSessions()
        for name, session in controller.sessions.items():
            sessions[name] = session
        controller.sessions = sessions
    sessions = controller.sessions
    owner = owner_of(opened)
    if sessions.held[owner] > MOST_OF_ONE:
        _close_first(controller, [name for name in sessions if owner_of(name) == owner])
    elif len(sessions) > MOST:
        _close_first(controller, list(sessions))


def _close_first(controller: SessionController, names: list[str]) -> None:
    from sglang.srt.managers.io_struct import CloseSessionReqInput

    for name in names:
        if controller._all_requests_finished(controller.sessions[name]):
            controller.close(CloseSessionReqInput(session_id=name))
            return
