"""Users named in an endpoint's path or query, and the access log, which prints both."""

from __future__ import annotations

import logging
import re
from urllib.parse import unquote, unquote_plus

from sglang.srt.tenancy.http.identity import BODY_FIELDS
from sglang.srt.tenancy.user_id import digest

_USER_PATH = re.compile(r"(/tenant/users/)([^? ]*?)(/cache/?)?(?=[? ]|$)")


def hide_users() -> None:
    """Have the access log of this process show users as a hash from now on."""
    for name in ("uvicorn.access", "uvicorn.error"):  # the second has websockets
        log = logging.getLogger(name)
        if not any(isinstance(known, _HideUsers) for known in log.filters):
            log.addFilter(_HideUsers())


class _HideUsers(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        if isinstance(record.args, tuple):
            record.args = tuple(hidden(arg) for arg in record.args)
        return True


def hidden(value: object) -> object:
    """Return the path without plain users; anything that is no such path as it is."""
    if not isinstance(value, str):
        return value
    path, mark, query = value.partition("?")
    path = _USER_PATH.sub(lambda m: f"{m[1]}#{digest(unquote(m[2]))}{m[3] or ''}", path)
    return path + mark + "&".join(map(_hidden_parameter, query.split("&")))


def _hidden_parameter(part: str) -> str:
    name, _, user = part.partition("=")
    if not user or unquote_plus(name) not in BODY_FIELDS:
        return part
    return f"{name}=#{digest(unquote_plus(user))}"
