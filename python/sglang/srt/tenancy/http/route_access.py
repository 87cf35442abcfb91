"""Find who may call the route that a request is for; refuse routes that nobody has thought of."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fastapi import routing
from starlette.routing import Host, Match, Mount, WebSocketRoute

from sglang.srt.tenancy.http.log import logger
from sglang.srt.tenancy.http.routes import ROWS, WEBSOCKET, Access
from sglang.srt.utils.auth import AuthLevel

if TYPE_CHECKING:
    from fastapi import FastAPI
    from starlette.types import Scope

FLAG = "--tenant-user-routes"

_UPSTREAMS = {
    AuthLevel.NORMAL: Access.OPEN,
    AuthLevel.ADMIN_OPTIONAL: Access.OPERATOR,
    AuthLevel.ADMIN_FORCE: Access.ADMIN,
}


class UnknownRoute(ValueError):
    """A route that the table lacks, or one listed that is none: which, and what to do."""


@dataclass(frozen=True, slots=True)
class Decision:
    """``path``: of the route whose handler will run; None: none will.

    ``closed``: the application would answer, but nobody may ask.
    """

    access: Access
    path: str | None = None
    closed: bool = False


class RouteAccess:
    """Who may call what of one application."""

    def __init__(self, app: FastAPI):
        self._app = app
        self._user_routes: frozenset[str] = frozenset()
        self._told: set[str] = set()
        self._known: dict[tuple[str, str], Access] = {}
        self._mounted = {row.path_here for row in ROWS if row.mounted}
        for row in ROWS:
            for method in row.methods.split():
                key = (row.path_here, method)
                self._known[key] = max(row.access, self._known.get(key, row.access))
        self._paths = {path for path, _ in self._known}

    def let_users_call(self, paths: Iterable[str]) -> None:
        """Let users call these routes, by their paths, where the table does not know them."""
        self._user_routes = frozenset(paths)

    def of(self, scope: Scope) -> Decision:
        """Decide on one request, by the route that Starlette would choose for it."""
        method = WEBSOCKET if scope["type"] == "websocket" else scope["method"]
        found, route, child = _match(self._app, scope)
        path = getattr(route, "path", None)
        if found is not Match.FULL or route is None:
            return self._unserved(method, path)
        access = self._access(path, method, scope)
        if access is None:
            self._tell(method, path)
            return Decision(Access.USER, path, closed=True)
        level = getattr(child.get("endpoint"), "_auth_level", AuthLevel.NORMAL)
        return Decision(max(access, _UPSTREAMS.get(level, Access.ADMIN)), path)

    def _unserved(self, method: str, path: str | None) -> Decision:
        """Decide where no handler runs: the answer is a 404, a 405 or a redirection."""
        open_here = self._known.get((path or "", "GET")) is Access.OPEN
        # Of browsers, which send no key; and of probes, which are told that there is only GET.
        harmless = method == "OPTIONS" or (method == "HEAD" and open_here)
        return Decision(Access.OPEN if harmless else Access.USER)

    def _access(self, path: str | None, method: str, scope: Scope) -> Access | None:
        """Look up who may call a route. None: nobody."""
        if path is None:
            return None
        if path in self._user_routes and path not in self._paths:
            return Access.USER
        if path in self._mounted:
            above = (path, scope.get("root_path", "") + path)
            if scope["path"].removesuffix("/") not in above:
                return None
        return self._known.get((path, method))

    def _tell(self, method: str, path: str | None) -> None:
        """Log, once for each path, that a route is closed; mounted ones are meant to be."""
        shown = path or "?"
        if shown not in self._told and shown not in self._mounted:
            self._told.add(shown)
            logger.error("%s %s: came after start-up, is in no table, and is closed.", method, path)

    def check(self) -> None:
        """Raises UnknownRoute where the application has a route that the table lacks."""
        here = [*_served(self._app)]
        for path in sorted(self._user_routes):
            if path in self._paths:
                raise UnknownRoute(
                    f"{FLAG} {path}: who may call this route is decided in docs/access.md; leave "
                    "it out"
                )
            if path not in (route.path for route in here):
                raise UnknownRoute(
                    f"{FLAG} {path}: the server has no such route; write it as its code does, "
                    "{parameters} included, or leave it out"
                )
        unknown = [route for route in here if not self._knows(route)]
        if unknown:
            raise UnknownRoute(
                f"{', '.join(map(str, unknown))}: the table of routes does not say who may call "
                f"it; list its path in {FLAG} if users may (operators alone, where its endpoint is "
                "marked so), or leave out the plugin that adds it"
            )

    def _knows(self, route: _Served) -> bool:
        if route.path in self._user_routes:
            return True
        if route.methods is None:
            return route.path in self._mounted
        return all((route.path, method) in self._known for method in route.methods)


@dataclass(frozen=True, slots=True)
class _Served:
    """A route of the application. ``methods``: None, where it takes all."""

    path: str
    methods: frozenset[str] | None

    def __str__(self) -> str:
        return f"{' '.join(sorted(self.methods or ('any method of',)))} {self.path or '/'}"


def _served(app: FastAPI) -> Iterator[_Served]:
    for route in _routes(app):
        kind = getattr(route, "original_route", route)
        path = getattr(route, "path", None)
        if path is None or isinstance(kind, Host):
            yield _Served(repr(kind), None)
        elif isinstance(kind, WebSocketRoute):
            yield _Served(path, frozenset((WEBSOCKET,)))
        else:
            methods = None if isinstance(kind, Mount) else getattr(route, "methods", None)
            yield _Served(path, frozenset(methods) if methods else None)
    # Folders of files, of releases that serve some.
    for folder in getattr(app.router, "_iter_low_priority_routes", tuple)():
        yield _Served(getattr(folder, "path", "") or repr(folder), None)


def _routes(app: FastAPI) -> Iterator[Any]:
    """List the routes, with those of included routers, which newer releases keep apart."""
    listed: Any = getattr(routing, "iter_route_contexts", iter)
    for route in app.router.routes:
        if getattr(route, "path", None) is None:
            yield from listed([route])
        else:
            yield route


def _match(app: FastAPI, scope: Scope) -> tuple[Match, Any, dict[str, Any]]:
    """Find the route that Starlette would: the first that fits, else the first of its path."""
    best: tuple[Match, Any, dict[str, Any]] = (Match.NONE, None, {})
    for route in _routes(app):
        match, child = route.matches(scope)
        if match is Match.FULL:
            return match, route, dict(child)
        if match is Match.PARTIAL and best[0] is Match.NONE:
            best = (match, route, dict(child))
    return best
