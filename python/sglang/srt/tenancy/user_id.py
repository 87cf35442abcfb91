"""What a user id may be, and what others may see of it."""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import uuid
from typing import Any

from sglang.srt.tenancy.errors import RequestError

_USER_ID = re.compile(r"[A-Za-z0-9._:@/-]{1,128}")

# No client can claim these names: they are not made of the alphabet above.
PUBLIC = ""  # who owns what belongs to nobody
GATEWAY = "?gateway"
SHARED_ANONYMOUS = "?anonymous"
# Users of the server's own requests begin like this; clients' may not.
OWN_PREFIX = "server:"

PROCESS_KEY = "SGLANG_TENANT_PROCESS_KEY"
_KEY_FORM = re.compile(r"[0-9A-Fa-f]{64}")
_MAKE_A_KEY = "make one with `openssl rand -hex 32`"


class IdentityError(RequestError):
    """A request whose identity is malformed (400), unknown (401) or refused (403)."""


def check_user_id(value: Any, field: str, *, own: bool = False) -> str:
    """Return the value, if it is a user id. Raises IdentityError 400 that names ``field``.

    ``own``: it is the server's own request that names its user.
    """
    if isinstance(value, str) and _USER_ID.fullmatch(value):
        if value.startswith(OWN_PREFIX) and not own:
            fault = f"{value[:48]!r} begins with {OWN_PREFIX}, as the server's own users do"
            raise IdentityError(400, field, f"{field}: {fault}; choose another")
        return value
    shown = repr(value)
    if len(shown) > 48:
        shown = f"{shown[:48]}…"
    raise IdentityError(
        400,
        field,
        f"{field}: {shown} is not a user id; give 1 to 128 characters of A-Z a-z 0-9 . _ : @ / -",
    )


def is_own(user_id: str | None) -> bool:
    """Tell whether it is a user of the server's own requests."""
    return user_id is not None and user_id.startswith(OWN_PREFIX)


def account_name(user_id: str | None) -> str:
    """Name the account that is charged: all who come without a name share one, and gain nothing."""
    if user_id is None or user_id.startswith("?"):
        return SHARED_ANONYMOUS
    return user_id


def fresh_anonymous() -> str:
    """Make a user that nobody else will ever be."""
    return f"?{uuid.uuid4().hex}"


def process_key() -> str:
    """Return a secret that all processes of one server share, and nobody else knows.

    64 hex digits. Raises ValueError where the environment holds something else.
    """
    key = os.environ.setdefault(PROCESS_KEY, secrets.token_hex(32))
    if not _KEY_FORM.fullmatch(key):
        raise ValueError(
            f"{PROCESS_KEY}: {len(key)} characters that are not 64 hex digits; {_MAKE_A_KEY}, "
            "or leave it unset on a server of one node"
        )
    return key


def require_process_key(nodes: int) -> None:
    """Check the key that the environment holds, or make one. Before other processes start: they
    inherit it.

    ``nodes``: machines of the server. Raises ValueError where the key is no key, and where each of
    several nodes would make its own: their names of private pages in storage would differ.
    """
    if nodes > 1 and PROCESS_KEY not in os.environ:
        raise ValueError(
            f"{PROCESS_KEY}: not set, and --nnodes is {nodes}: each node would make its own, and "
            f"name private pages in storage differently; {_MAKE_A_KEY} and set it on all nodes"
        )
    process_key()


def digest(user_id: str, size: int = 8) -> str:
    """Hash a user with a key, for logs and names that others may see. ``size``: bytes."""
    key = bytes.fromhex(process_key())
    return hashlib.blake2b(user_id.encode(), key=key, digest_size=size).hexdigest()
