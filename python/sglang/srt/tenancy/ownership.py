"""To whom a cached prefix belongs, and how a request is told apart in the tree."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from sglang.srt.tenancy.user_id import digest, fresh_anonymous

if TYPE_CHECKING:
    from sglang.srt.managers.io_struct import TokenizedGenerateReqInput
    from sglang.srt.managers.schedule_batch import Req
    from sglang.srt.tenancy.options import TenantOptions


class Namespace(NamedTuple):
    """What ``RadixKey.extra_key`` holds for a private prefix.

    Upstream keeps keys of different ``extra_key`` apart in every tree it builds, the
    waiting queue's included, and hands it on through split, evict and load back. So an
    owner that is part of it cannot be forgotten on the way.
    """

    owner: str
    extra_key: str | None  # upstream's own: LoRA adapter, cache salt

    def __repr__(self) -> str:  # keys appear in upstream's log lines and errors
        return f"Namespace(owner=#{digest(self.owner)}, extra_key={self.extra_key!r})"


@lru_cache(maxsize=65_536)
def namespace(owner: str, extra_key: str | None) -> Namespace:
    """One object for all of an owner's nodes: it is held by each of their keys."""
    return Namespace(owner, extra_key)


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
        req.extra_key = namespace(req.user_id, req.extra_key)


def stays_private(req: Req) -> bool:
    """Whether what this request writes may never be a reason to make it public."""
    return bool(req.cache_scope in ("private", "none"))


def keeps_out_of_tree(req: Req) -> bool:
    """Whether nothing that this request computes may be inserted, on any tier.

    Nor may anything of a request without a user: upstream ends some, whose session is gone,
    before they are adopted.
    """
    return req.user_id is None or bool(req.cache_scope == "none")
