"""Count what users' requests took, for operators. Nothing is decided by it.

Every number only grows, so that a scraper sees rates. Whose numbers are shown by name is bounded:
users of the config file, and as many others as there are slots; everybody else counts as one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from operator import add
from typing import NamedTuple

SLOTS = 32
# Users whose recent tokens are compared to give the slots; half of them stay from one period to
# the next, so that there is room for newcomers.
_CANDIDATES = 8 * SLOTS
# Requests and answers after which slots are given anew, and recent tokens halved.
_PERIOD = 2048


# Where a prompt's tokens were found and whose they were, in the order in which they lie in it.
SCOPES = (
    ("device", "public"),
    ("device", "private"),
    ("host", "public"),
    ("host", "private"),
    ("storage", "public"),
    ("storage", "private"),
    ("computed", "none"),
)


class Found(NamedTuple):
    """Where one prompt's tokens came from. ``public``: how many of the first found were public."""

    device: int
    host: int
    storage: int
    computed: int
    public: int = 0

    def by_scope(self) -> tuple[int, ...]:
        """Return tokens in the order of SCOPES. A prefix lies on the device first, then on the
        host, then in storage; what is public comes before what is private."""
        device, host, storage, computed, public = self
        on_device = min(public, device)
        on_host = min(public - on_device, host)
        stored = min(public - on_device - on_host, storage)
        return (
            on_device,
            device - on_device,
            on_host,
            host - on_host,
            stored,
            storage - stored,
            computed,
        )


@dataclass(slots=True)
class Usage:
    """``prompt``: tokens in the order of SCOPES. ``output``: tokens of answers that have ended.
    ``limited``: requests refused by a limit."""

    requests: int = 0
    output: int = 0
    prompt: list[int] = field(default_factory=lambda: [0] * len(SCOPES))
    limited: Counter[str] = field(default_factory=Counter)

    def admit(self, found: Iterable[int]) -> None:
        """``found``: tokens in the order of SCOPES."""
        self.requests += 1
        self.prompt[:] = map(add, self.prompt, found)

    def by_scope(self) -> Iterator[tuple[str, str, int]]:
        """Yield source, scope and tokens."""
        for (source, scope), tokens in zip(SCOPES, self.prompt, strict=True):
            yield source, scope, tokens


class UsageCounter:
    """All users of one scheduler. ``named``: those who are always shown."""

    def __init__(self, named: Collection[str] = (), slots: int = SLOTS):
        self.total = Usage()
        self.users: dict[str, Usage] = {}
        self.other = Usage()
        self.named = named
        self._slots = slots
        self._taken: dict[str, None] = {}  # users who are shown and not named
        self._recent: dict[str, int] = {}  # tokens, halved each period
        self._due = _PERIOD

    def admit(self, user: str, found: Found) -> None:
        """Count a request whose prompt has been computed."""
        self._weigh(user, found.device + found.host + found.storage + found.computed)
        tokens = found.by_scope()
        self.total.admit(tokens)
        self._of(user).admit(tokens)

    def answered(self, user: str, tokens: int) -> None:
        """Count an answer's tokens."""
        self._weigh(user, tokens)
        self.total.output += tokens
        self._of(user).output += tokens

    def limit(self, user: str, counts: Mapping[str, int]) -> None:
        """Count requests that a limit refused, by the limit's name."""
        self.total.limited.update(counts)
        self._of(user).limited.update(counts)

    def name(self, named: Collection[str]) -> None:
        """Show these users from now on, whatever they take, and no others in their place."""
        self.named = named
        for user in list(self.users):
            if user not in named and user not in self._taken:
                self._drop(user)

    def forget(self, user: str) -> None:
        """Keep nothing by this name."""
        self._drop(user)
        self._recent.pop(user, None)

    def shown(self) -> Iterator[tuple[str | None, Usage]]:
        """Yield each user who is shown, and what all others took together, under None."""
        yield from self.users.items()
        yield None, self.other

    def _of(self, user: str) -> Usage:
        """Return where to count: what a user took before they were shown stays with the others."""
        usage = self.users.get(user)
        if usage is not None:
            return usage
        if user not in self.named:
            if len(self._taken) >= self._slots:
                return self.other
            self._taken[user] = None
        usage = self.users[user] = Usage()
        return usage

    def _drop(self, user: str) -> None:
        self.users.pop(user, None)
        self._taken.pop(user, None)

    def _weigh(self, user: str, tokens: int) -> None:
        self._due -= 1
        recent = self._recent
        if user in recent or len(recent) < _CANDIDATES:
            recent[user] = recent.get(user, 0) + tokens
        if not self._due:
            self._give_slots()

    def _give_slots(self) -> None:
        """Take the slots of users who took less than half of what somebody without one did."""
        self._due = _PERIOD
        recent = self._recent
        waiting = sorted(
            (user for user in recent if user not in self.users),
            key=lambda user: recent[user],
            reverse=True,
        )
        least = sorted(self._taken, key=lambda user: recent.get(user, 0))
        for newcomer, user in zip(waiting, least, strict=False):
            if recent[newcomer] <= 2 * recent.get(user, 0):
                break
            self._drop(user)
            self._taken[newcomer] = None
            self.users[newcomer] = Usage()
        largest = sorted(recent, key=lambda user: recent[user], reverse=True)[: _CANDIDATES // 2]
        self._recent = {user: half for user in largest if (half := recent[user] // 2)}
