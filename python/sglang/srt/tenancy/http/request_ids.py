"""Give each user a space of request ids of their own.

Clients choose ids, and the scheduler aborts every request whose id begins with what it is told. So
an id inside the server says whose it is and where it ends: two users' requests of one id are two,
and none is the beginning of another.
"""

from __future__ import annotations

from urllib.parse import quote, unquote

from sglang.srt.tenancy.user_id import digest

# Quoting leaves neither in a client's id.
_OWNER_ENDS, _ID_ENDS = ":", "!"


def internal_id(owner: str, client_id: str) -> str:
    """Return the id inside the server of what ``owner`` calls ``client_id``."""
    return f"{digest(owner)}{_OWNER_ENDS}{quote(client_id, safe='')}{_ID_ENDS}"


def client_id(internal: str) -> str:
    """Return the id as its user knows it. What upstream adds for one of several answers stays."""
    if _ID_ENDS not in internal:
        return internal  # of the server itself
    named, _, added = internal.rpartition(_ID_ENDS)
    return unquote(named.partition(_OWNER_ENDS)[2]) + added


def logical_id(internal: str) -> str:
    """Return the id of the request to which one of several answers belongs."""
    named, ends, _ = internal.rpartition(_ID_ENDS)
    return named + ends if ends else internal
