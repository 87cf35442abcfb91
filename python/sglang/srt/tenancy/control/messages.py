"""Define what HTTP processes ask the schedulers, and what these answer.

One request type and one reply type travel on the schedulers' ordinary channel, so all ranks
meet a control request between the same two user requests. A new kind is a new member of
``ControlRequest``.

Every process that decodes messages has to know these types: this is imported early.
"""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING, Any, Literal, get_args

import msgspec

from sglang.srt.managers.io_struct import BaseReq, hook_custom_types
from sglang.srt.tenancy.prefix_spec import SourceKind
from sglang.srt.tenancy.user_settings import UserSettings

if TYPE_CHECKING:
    Tokens = array[int]
else:
    Tokens = array  # cannot be subscripted before Python 3.12

# Whom a registered prefix came from: the config file's go when the file no longer has them.
Origin = Literal["request", "config"]


class Prefix(msgspec.Struct, frozen=True, array_like=True):
    """A token sequence that everybody may share. ``tokens``: array of typecode "q"."""

    name: str
    source: SourceKind
    tokens: Tokens


class Publish(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """Register one prefix for an operator's request."""

    prefix: Prefix


class Withdraw(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """Unregister the prefix of this name."""

    name: str


class Configure(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """The config file as the schedulers need it, all of it: a prefix that it no longer has is
    withdrawn, a user who is not in it has weight 1 and the default share. What was set at run time
    stays. ``users``: by user or DEFAULT; ``public_weight``: of what is public."""

    prefixes: list[Prefix]
    users: dict[str, UserSettings] = {}
    public_weight: float | None = None


class SetUser(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """Set at run time what holds for a user, or for all others (DEFAULT). None: nothing more."""

    user: str
    settings: UserSettings | None


class ListPrefixes(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """Which prefixes are registered."""


class ListHashes(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """Which prefixes became public, and which private again: ``most`` of each, as keyed hashes."""

    most: int


class LearnHashes(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """What other replicas say of theirs: tokens and hash of each prefix."""

    public: list[tuple[int, bytes]]
    demoted: list[tuple[int, bytes]]


class Stats(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """Totals of the tree, and the ``owners`` who hold most."""

    owners: int


class Usage(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """What each shown user took and holds."""


class Limited(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """Requests that an HTTP process has refused since it last said so: user -> limit -> number."""

    users: dict[str, dict[str, int]]


class Tree(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """The nodes themselves: at most ``nodes`` of them, at most ``depth`` levels below the root."""

    depth: int
    nodes: int


class Live(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """What the live page shows. ``seen``: by rank, the number of the last change that is known;
    ``owners``, ``users``: how many of the largest are listed; ``nodes``: 0 for no tree.
    """

    seen: list[int]
    owners: int
    users: int
    nodes: int = 0


class ScanResult(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """What the detector found in one request's tokens.

    ``harmless``: so many of the first hold nothing sensitive. ``sensitive``: index of the first
    token that does. ``extra_key`` and ``lora_id``: upstream's, as the request left with them.
    """

    owner: str
    extra_key: str | None
    tokens: Tokens
    harmless: int
    sensitive: int | None = None
    lora_id: str | None = None


class Erase(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """Free all private nodes of a user, on every tier, and close their sessions."""

    user: str


class ClearResponses(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """Have every HTTP process drop the answers that it keeps of a user; None: of all."""

    user: str | None = None


class Tick(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """The time, in seconds since any fixed moment: what the schedulers know of it.

    Several HTTP processes may send it, none need be punctual: what is no later than before is
    ignored.
    """

    seconds: int


ControlRequest = (
    Publish
    | Withdraw
    | Configure
    | SetUser
    | ListPrefixes
    | ListHashes
    | LearnHashes
    | Stats
    | Usage
    | Limited
    | Tree
    | Live
    | ScanResult
    | Erase
    | ClearResponses
    | Tick
)


class Refusal(msgspec.Struct, frozen=True, array_like=True):
    """Why a request was not carried out: an HTTP status, the field at fault, the way out."""

    status: int
    param: str
    message: str


class Refused(Exception):
    """A control request that is not carried out, and that changed nothing."""

    def __init__(self, refusal: Refusal):
        super().__init__(refusal.message)
        self.refusal = refusal


def refused(status: int, param: str, problem: str) -> Refused:
    """Make what is to be raised. ``problem``: what is wrong with ``param``, and the way out."""
    return Refused(Refusal(status, param, f"{param}: {problem}"))


class TenantControl(BaseReq, kw_only=True):  # type: ignore[call-arg]
    """A control request to every scheduler. ``rid`` pairs it with its replies."""

    request: ControlRequest


class TenantControlReply(BaseReq, kw_only=True):  # type: ignore[call-arg]
    """One data-parallel rank's answer, JSON-like. On refusal nothing was changed."""

    rank: int
    answer: dict[str, Any]
    refusal: Refusal | None = None


class UserErased(BaseReq, kw_only=True):  # type: ignore[call-arg]
    """To every HTTP process: drop what it holds of a user."""

    user: str


class UserSet(BaseReq, kw_only=True):  # type: ignore[call-arg]
    """To every HTTP process: as ``SetUser``, which the schedulers have carried out."""

    user: str
    settings: UserSettings | None = None


class ResponsesCleared(BaseReq, kw_only=True):  # type: ignore[call-arg]
    """To every HTTP process: drop the answers that it keeps of a user; None: of all."""

    user: str | None = None


# What the schedulers tell every HTTP process.
Notice = UserErased | UserSet | ResponsesCleared
NOTICES = get_args(Notice)

hook_custom_types(TenantControl, TenantControlReply, *NOTICES)
