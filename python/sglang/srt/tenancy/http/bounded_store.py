"""Keep things for users until they ask for them again, and no more than fit."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from typing import Any, ClassVar

Entry = tuple[str, Any]  # owner, key

_UNDER_WAY = ("queued", "in_progress")


class NotStored(KeyError, ValueError):
    """An entry that is not there, or not any more. Upstream answers a ValueError with a 400."""

    def __str__(self) -> str:
        return "previous_response_id: it is not stored any more; send the whole conversation"


class BoundedStore(dict[Entry, Any]):
    """A dictionary by owner and key. Where it is full, or one owner has too much of it, the oldest
    entry goes whose response is not under way.

    ``most`` and ``most_of_one``: entries, of all owners and of one. None: no bound, as upstream.
    """

    most: ClassVar[int | None] = None
    most_of_one: ClassVar[int] = 512

    def __init__(self) -> None:
        super().__init__()
        self._ages: OrderedDict[Entry, None] = OrderedDict()
        self._of: dict[str, OrderedDict[Entry, None]] = {}

    def __setitem__(self, entry: Entry, value: Any) -> None:
        if entry not in self._ages:
            self._make_room(entry[0])
            self._ages[entry] = None
            self._of.setdefault(entry[0], OrderedDict())[entry] = None
        super().__setitem__(entry, value)

    def __missing__(self, entry: Entry) -> Any:
        raise NotStored(entry[1])

    def __delitem__(self, entry: Entry) -> None:
        super().__delitem__(entry)
        self._forget(entry)

    def pop(self, entry: Entry, *default: Any) -> Any:
        value = super().pop(entry, *default)
        if entry in self._ages:
            self._forget(entry)
        return value

    def _forget(self, entry: Entry) -> None:
        del self._ages[entry]
        theirs = self._of[entry[0]]
        del theirs[entry]
        if not theirs:
            del self._of[entry[0]]

    def _make_room(self, owner: str) -> None:
        if self.most is None:
            return
        theirs = self._of.get(owner, ())
        if len(theirs) >= self.most_of_one:
            self._drop_oldest(theirs)
        elif len(self) >= self.most:
            self._drop_oldest(self._ages)

    def _drop_oldest(self, entries: Iterable[Entry]) -> None:
        """None, where all are under way: as many as the server computes at a time."""
        for entry in entries:
            if getattr(super().get(entry), "status", None) not in _UNDER_WAY:
                BoundedStore.__delitem__(self, entry)
                return
