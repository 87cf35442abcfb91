"""The table of registered public prefixes. Each scheduler has one; all are equal."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sglang.srt.tenancy.control.messages import Origin, Prefix, Tokens, refused
from sglang.srt.tenancy.prefix_spec import MAX_PREFIXES

Change = Callable[[Tokens], None]


@dataclass(frozen=True, slots=True)
class Entry:
    """A prefix, who asked for it, and a digest of the pages that it fills."""

    prefix: Prefix
    origin: Origin
    content: str


def content_of(tokens: Tokens) -> str:
    """Hash the tokens (SHA-256, hex), the same on every server."""
    return hashlib.sha256(tokens.tobytes()).hexdigest()


class PrefixTable:
    """Names of token sequences. The tree knows no names and whole pages only: it is told of a
    sequence when its first name comes (``publish``) and when its last one goes (``withdraw``)."""

    def __init__(self, page_size: int, publish: Change, withdraw: Change):
        self._page_size = page_size
        self._publish = publish
        self._withdraw = withdraw
        self._entries: dict[str, Entry] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, prefix: Prefix) -> dict[str, Any]:
        """Register for a request; the same once more changes nothing. Raises Refused."""
        entry = self._checked(prefix, "request", prefix.source)
        known = self._entries.get(prefix.name)
        if known is None:
            self._become(self._entries | {prefix.name: entry})
        elif known.prefix.tokens != prefix.tokens:
            raise refused(
                409,
                "name",
                f"{prefix.name!r} names other tokens; delete it first, or choose another name",
            )
        return self._describe(self._entries[prefix.name])

    def remove(self, name: str) -> dict[str, Any]:
        """Unregister. Raises Refused where it is unknown, or the config file's."""
        entry = self._entries.get(name)
        if entry is None:
            raise refused(
                404, "name", f"{name!r} is no public prefix; GET /tenant/public_prefixes lists them"
            )
        if entry.origin == "config":
            raise refused(
                409, "name", f"{name!r} is in the config file; take it out there and send SIGHUP"
            )
        self._become({other: e for other, e in self._entries.items() if other != name})
        return {"name": name, "deleted": True}

    def configure(self, prefixes: Sequence[Prefix]) -> dict[str, Any]:
        """Make the config file's prefixes exactly these. A name in the file wins over a
        request's; other requests' prefixes stay. Raises Refused."""
        entries = {name: e for name, e in self._entries.items() if e.origin == "request"}
        for prefix in prefixes:
            where = f"public_prefixes.{prefix.name}.{prefix.source}"
            entries[prefix.name] = self._checked(prefix, "config", where)
        self._become(entries)
        return {"configured": len(prefixes)}

    def list(self) -> list[dict[str, Any]]:
        """Show every entry, in the order of registration; never its tokens."""
        return [self._describe(entry) for entry in self._entries.values()]

    def _checked(self, prefix: Prefix, origin: Origin, field: str) -> Entry:
        count = len(prefix.tokens)
        if count < self._page_size:
            raise refused(
                400,
                field,
                f"{count} tokens are less than one page of the cache ({self._page_size}); "
                "give a longer prefix, or start the server with a smaller --page-size",
            )
        return Entry(prefix, origin, content_of(prefix.tokens[: self._usable(count)]))

    def _become(self, entries: dict[str, Entry]) -> None:
        """Exchange the table, and tell the tree what is new, then what is gone: what both hold
        is public throughout."""
        if len(entries) > MAX_PREFIXES:
            raise refused(
                409, "name", f"{MAX_PREFIXES} public prefixes are the most; delete one first"
            )
        before = {e.content: e.prefix.tokens for e in self._entries.values()}
        after = {e.content: e.prefix.tokens for e in entries.values()}
        for content, tokens in after.items():
            if content not in before:
                self._publish(tokens)
        for content, tokens in before.items():
            if content not in after:
                self._withdraw(tokens)
        self._entries = entries

    def _describe(self, entry: Entry) -> dict[str, Any]:
        count = len(entry.prefix.tokens)
        return {
            "name": entry.prefix.name,
            "tokens": count,
            "usable_tokens": self._usable(count),
            "source": entry.prefix.source,
            "origin": entry.origin,
        }

    def _usable(self, count: int) -> int:
        return count - count % self._page_size
