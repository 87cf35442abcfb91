"""To whom a cached prefix belongs, and how a request is told apart in the tree."""

from __future__ import annotations

from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

from sglang.srt.tenancy.extra_keys import OWNED
from sglang.srt.tenancy.user_id import digest, fresh_anonymous

if TYPE_CHECKING:
    from sglang.srt.managers.io_struct import TokenizedGenerateReqInput
    from sglang.srt.managers.schedule_batch import Req
    from sglang.srt.tenancy.flags import TenantOptions


class Namespace(str):
    """What ``RadixKey.extra_key`` holds for a private prefix.

    Upstream keeps keys of different ``extra_key`` apart in every tree it builds, the
    waiting queue's included, and hands it on through split, evict and load back. So an
    owner that is part of it cannot be forgotten on the way.

    A string, since some of upstream's trees take nothing else. Its text says where the owner
    ends, behind a mark that no plain key begins with (``extra_keys.qualified``): texts are equal
    only where owner and extra key (upstream's own: LoRA adapter, cache salt) are, also in a copy
    that is a plain ``str``. The text has the owner's plain id: formatted, it shows a digest.

    There is one object for an owner and an extra key, as long as a node or a request holds it.
    Nobody's name outlives what they have.
    """

    __slots__ = ("__weakref__", "extra_key", "owner")

    owner: str
    extra_key: str | None

    def __new__(cls, owner: str, extra_key: str | None) -> Namespace:
        found = _held.get((owner, extra_key))
        if found is None:
            found = super().__new__(cls, _text(owner, extra_key))
            object.__setattr__(found, "owner", owner)
            object.__setattr__(found, "extra_key", extra_key)
            _held[owner, extra_key] = found
        return found

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{name}: a namespace does not change; make another")

    def __reduce__(self) -> tuple[type[Namespace], tuple[str, str | None]]:
        return Namespace, (self.owner, self.extra_key)

    def __repr__(self) -> str:  # keys appear in upstream's log lines and errors
        return f"Namespace(owner=#{digest(self.owner)}, extra_key={self.extra_key!r})"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return format(repr(self), spec)


_held: WeakValueDictionary[tuple[str, str | None], Namespace] = WeakValueDictionary()


def _text(owner: str, extra_key: str | None) -> str:
    rest = "" if extra_key is None else f"+{extra_key}"  # no extra key is not an empty one
    return f"{OWNED}{len(owner)}:{owner}{rest}"


def adopt(req: Req, received: TokenizedGenerateReqInput, options: TenantOptions) -> None:
    """Give a scheduler's request the identity it arrived with."""
    if not options.enable_tenant_cache:
        return
    req.user_id, req.cache_scope = received.user_id, received.cache_scope
    req.counted_to = None  # by the tree: how many of its tokens, once it was admitted
    if req.user_id is None:
        # No front end we know sends this. One that did would be isolated, not shared.
        req.user_id, req.cache_scope = fresh_anonymous(), "none"
    if options.tenant_mode != "shared":
        req.extra_key = Namespace(req.user_id, req.extra_key)


def stays_private(req: Req) -> bool:
    """Tell whether what this request writes may never be a reason to make it public."""
    return bool(req.cache_scope in ("private", "none"))


def keeps_out_of_tree(req: Req) -> bool:
    """Tell whether nothing that this request computes may be inserted, on any tier.

    Nor may anything of a request without a user: upstream ends some, whose session is gone,
    before they are adopted.
    """
    return req.user_id is None or bool(req.cache_scope == "none")
