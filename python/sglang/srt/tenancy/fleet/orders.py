"""What an operator may order, as requests to each replica's endpoints."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

Row = Mapping[str, Any]


class OrderError(ValueError):
    """An order that cannot be sent: what is wrong with it, and the way out."""


@dataclass(frozen=True)
class Order:
    """One request. Repeated, it leaves a replica as once.

    ``takes_away``: there may be nothing to take away (404), where it was carried out before.
    ``show``: an answer as columns of a table, one row or several.
    """

    method: str
    path: str
    body: Any = None
    takes_away: bool = False
    show: Callable[[Any], list[Row]] = lambda answer: [answer]


def stats(owners: int) -> Order:
    """Ask how full each replica's cache is."""
    return Order("GET", f"/tenant/stats?owners={owners}", show=_totals)


def list_prefixes() -> Order:
    """Ask which public prefixes are registered."""
    return Order("GET", "/tenant/public_prefixes", show=lambda answer: answer["public_prefixes"])


def add_prefix(text: str, source: str) -> Order:
    """Register the prefix that a JSON file describes. Raises OrderError, naming ``source``."""
    try:
        body = json.loads(text)
    except ValueError as error:
        raise OrderError(f"{source}: no JSON: {error}") from None
    if not isinstance(body, dict):
        raise OrderError(f"{source}: no JSON object; write what POST /tenant/public_prefixes takes")
    return Order("POST", "/tenant/public_prefixes", body)


def remove_prefix(name: str) -> Order:
    """Take a public prefix back."""
    path = f"/tenant/public_prefixes?name={quote(name, safe='')}"
    return Order("DELETE", path, takes_away=True)


def erase(user: str) -> Order:
    """Forget all that a user has in the caches."""
    return Order("DELETE", f"{_user(user)}/cache", show=_erased)


def get_user(user: str) -> Order:
    """Ask what holds for a user."""
    return Order("GET", _user(user), show=_settings)


def set_user(user: str, fields: list[str]) -> Order:
    """Set these fields of a user, and no others. Raises OrderError."""
    body: dict[str, Any] = {}
    for field in fields:
        name, equals, text = field.partition("=")
        if not equals or not name:
            raise OrderError(f"{field!r}: no setting; write field=value, as max_running=8")
        try:
            body[name] = json.loads(text)
        except ValueError:
            body[name] = text  # the server says what is wrong with it
    if not body:
        raise OrderError("user set: sets nothing; write field=value, as max_running=8, or unset")
    return Order("PUT", _user(user), body, show=_settings)


def unset_user(user: str) -> Order:
    """Take back what was set for a user at run time."""
    return Order("DELETE", _user(user), takes_away=True)


def selftest() -> Order:
    """Have each replica prove that isolation holds."""
    return Order("POST", "/tenant/selftest", show=lambda answer: [{"passed": answer["passed"]}])


def list_hashes() -> Order:
    """Ask, as keyed hashes, what became public, and what private again."""
    return Order("GET", "/tenant/public_hashes")


def learn_hashes(told: dict[str, Any]) -> Order:
    """Have a replica take over what others told."""
    return Order("POST", "/tenant/public_hashes", told, show=_learnt)


def _user(user: str) -> str:
    return f"/tenant/users/{quote(user, safe='/')}"


def _totals(answer: Any) -> list[Row]:
    return [
        {
            "public": replica["device"]["public"],
            "private": replica["device"]["private"],
            "capacity": replica["device"]["capacity"],
            "owners": replica["device"]["owners"],
            "promotions": replica["counts"].get("promotions", 0),
            "demotions": replica["counts"].get("demotions", 0),
            "public_prefixes": replica["public_prefixes"],
        }
        for replica in answer["replicas"]
    ]


def _erased(answer: Any) -> list[Row]:
    row = {"user": answer["user"], **answer["freed_tokens"]}
    return [
        row | {"sessions": answer["closed_sessions"], "may_be_left": len(answer["not_reached"])}
    ]


def _learnt(answer: Any) -> list[Row]:
    return [{"new_public": answer["public"], "new_demoted": answer["demoted"]}]


def _settings(answer: Any) -> list[Row]:
    return [{name: value for name, value in answer.items() if name != "set_by"}]
