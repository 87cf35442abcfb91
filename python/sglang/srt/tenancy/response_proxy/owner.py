"""Tell whose answers a request through the proxy may be given: by its key, and by its user."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any, Literal

from sglang.srt.tenancy.response_cache.cacheable_request import USER_FIELDS

Anonymous = Literal["isolate", "share"]

_KEYS = (b"authorization", b"x-api-key")
NOBODY = "?anonymous"


def owner_of(
    headers: Iterable[tuple[bytes, bytes]],
    body: Mapping[str, Any],
    user_header: bytes | None,
    anonymous: Anonymous,
) -> str | None:
    """Return who asks, as a name that holds no key; None: nobody of whom anything may be kept.

    A user is whom ``user_header`` names, or the body, among those of one key: the server behind
    checks the key, and nothing here is told to who has another.
    """
    named = [(name.lower(), value) for name, value in headers]
    keys = [value for name, value in named if name in _KEYS]
    users = [value.decode("latin-1") for name, value in named if name == user_header]
    users += [body[field] for field in USER_FIELDS if isinstance(body.get(field), str)]
    if not keys and not users:
        return NOBODY if anonymous == "share" else None
    if body.get("cache_scope") == "none" or isinstance(body.get("user_id"), list):
        return None
    credential = hashlib.sha256(b"\0".join(keys)).hexdigest()[:32] if keys else ""
    return f"{credential}:{users[0] if users else ''}"
