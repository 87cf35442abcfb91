"""One ``extra_key`` out of several: cache salt, client's key, LoRA adapter, expert size.

Upstream writes them one behind the other, so that different ones can give the same
string, and share a prefix: salt "a" with key "bc", salt "ab" with key "c". Here a
joined key says how long its first part is, behind a mark that a lone key has not.
"""

from __future__ import annotations

_CLIENTS, _SERVERS = "\x1f", "\x1e"  # ASCII's unit and record separators
OWNED = "\x1d"  # its group separator: begins the text of a ``Namespace``, and of nothing else


def joined(first: str | None = None, second: str = "") -> str | None:
    """Join what a client sent as cache salt and extra key; an empty one is left out.

    One alone is itself, be it salt or key. Two give a string that no other two give, and
    no one alone. (``/generate`` takes the joined form as it is: who writes it knows both.)
    """
    if first and (second or first.startswith(_CLIENTS)):
        return _framed(_CLIENTS, first, second)
    return first


def qualified(name: str | None, key: str | None) -> str | None:
    """Put ``key`` into the namespace of something of the server's that has a name, or of nothing.

    No key in the one is equal to a key in another: a client can send an adapter's id as
    its salt, and ids of adapters named at start-up can be computed from name and path. Nor is
    one equal to an owner's ``Namespace``, whatever the client sent.
    """
    if name or (key or "").startswith((_SERVERS, OWNED)):
        return _framed(_SERVERS, name or "", key or "")
    return key


def _framed(mark: str, first: str, rest: str) -> str:
    return f"{mark}{len(first)}:{first}{rest}"
