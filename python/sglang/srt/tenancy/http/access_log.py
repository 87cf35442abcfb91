"""Users named in an endpoint's path, and the access log, which prints paths."""

from __future__ import annotations

import logging
import re
from urllib.parse import unquote

from sglang.srt.tenancy.user_id import digest

_USER_PATH = re.compile(r"(/tenant/users/)([^? ]*?)(/cache/?)?(?=[? ]|$)")


def hide_users() -> None:
    """Have the access log of this process show users as a hash from now on."""
    log = logging.getLogger("uvicorn.access")
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
    return _USER_PATH.sub(lambda m: f"{m[1]}#{digest(unquote(m[2]))}{m[3] or ''}", value)
