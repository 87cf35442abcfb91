"""Keep each user's stored responses apart, and no more of them than fit."""

from __future__ import annotations

from typing import Any

from sglang.srt.tenancy.http.bounded_store import BoundedStore
from sglang.srt.tenancy.http.request_context import current_identity, current_owner
from sglang.srt.tenancy.user_id import SHARED_ANONYMOUS

# Responses that one HTTP process stores; upstream stores all that there ever were.
MOST_STORED = 8192


class OwnedStore(BoundedStore):
    """A dictionary of which each user sees only their own entries (stored responses).

    With the feature off all requests are one owner: a plain dictionary.
    """

    @staticmethod
    def _key(key: Any) -> tuple[str, Any]:
        identity = current_identity()
        return (identity.owner if identity else SHARED_ANONYMOUS, key)

    def __setitem__(self, key: Any, value: Any) -> None:
        owner = current_owner()
        if owner is None or not owner.erased:
            super().__setitem__(self._key(key), value)

    def __getitem__(self, key: Any) -> Any:
        return super().__getitem__(self._key(key))

    def __contains__(self, key: object) -> bool:
        return super().__contains__(self._key(key))

    def get(self, key: Any, default: Any = None) -> Any:
        return super().get(self._key(key), default)

    def pop(self, key: Any, *default: Any) -> Any:
        return super().pop(self._key(key), *default)

    def forget(self, user: str) -> list[Any]:
        """Drop a user's entries. Returns the keys that they had."""
        theirs = list(self._of.get(user, ()))
        for entry in theirs:
            BoundedStore.__delitem__(self, entry)
        return [key for _, key in theirs]
