"""Who is compared: ways to keep users apart, or not, on the same server settings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from serving.server import ISOLATED, SELECTIVE, UPSTREAM, Mode
from workloads.request import Request


def by_name(request: Request) -> dict[str, Any]:
    return {"user": request.user}


def by_salt(request: Request) -> dict[str, Any]:
    """What upstream offers: a key in the body that divides the cache."""
    return {"extra_key": request.user}


@dataclass(frozen=True)
class Method:
    """``salted``: users are told apart by a salt of their own."""

    name: str
    mode: Mode
    salted: bool = False

    def naming(self, request: Request) -> dict[str, Any]:
        return by_salt(request) if self.salted else by_name(request)


SHARED_BY_ALL = Method("upstream", UPSTREAM)
SALTED = Method("salt per user", UPSTREAM, salted=True)
DIVIDED = Method("isolated", ISOLATED)
SELECTED = Method("selective", SELECTIVE)

# Each round's methods have a server each, and take turns on it pass by pass.
ROUNDS = ((SHARED_BY_ALL, DIVIDED, SELECTED), (SALTED,))
METHODS = (SHARED_BY_ALL, SALTED, DIVIDED, SELECTED)
