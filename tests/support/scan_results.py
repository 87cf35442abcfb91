"""What the detector of a whole server says of itself."""

from __future__ import annotations

from collections import Counter
from typing import Any

from support.asks import Asker
from support.operator import Operator
from support.patience import until
from support.prompts import fresh_user
from support.server import Server

ADMIN = "sk-admin"
FLAGS = ("--admin-api-key", ADMIN)


def detector(server: Server) -> dict[str, Any]:
    reply = Operator(server, ADMIN).ask("GET", "/tenant/detector")
    reply.raise_for_status()
    found: dict[str, Any] = reply.json()["detector"]
    return found


def scanned(server: Server) -> int:
    counts = detector(server)["counts"]
    return sum(counts.get(name, 0) for name in ("sensitive", "not_sensitive", "without_text"))


def settle(server: Server) -> None:
    """Return when nothing that was offered before waits for its result."""

    def settled() -> bool:
        counts = Counter(detector(server)["counts"])
        done = ("sensitive", "not_sensitive", "without_text", "dropped", "forgotten", "lost")
        return sum(counts[name] for name in done) == counts["offered"]

    until(settled, "all is scanned")


def ask_three(asker: Asker, endpoint: str, prompt: str, **body: Any) -> None:
    """Three users send a prompt; returns when all three scan results are there."""
    before = scanned(asker.server)
    for _ in range(3):
        asker.ask(endpoint, prompt, user_id=fresh_user(), **body)
    until(lambda: scanned(asker.server) >= before + 3)
