"""Keep who asks in a context variable, and stamp it on the engine's requests.

Streaming and background tasks inherit the variable, so no handler has to carry the identity and
none can drop it.
"""

from __future__ import annotations

import contextvars
import weakref
from collections.abc import Sequence
from typing import TYPE_CHECKING

from sglang.srt.managers.io_struct import EmbeddingReqInput, GenerateReqInput
from sglang.srt.tenancy.http.identity import RequestIdentity
from sglang.srt.tenancy.http.request_ids import internal_id
from sglang.srt.tenancy.user_id import SHARED_ANONYMOUS, IdentityError, digest, fresh_anonymous
from sglang.srt.tenancy.validation.fields import EngineRequest

if TYPE_CHECKING:
    from sglang.srt.tenancy.flags import TenantOptions


class RequestOwner:
    """Whom one HTTP request's stored state belongs to, until the user is erased."""

    __slots__ = ("__weakref__", "erased", "name")

    def __init__(self, name: str):
        self.name = name
        self.erased = False


_identity: contextvars.ContextVar[RequestIdentity | None] = contextvars.ContextVar(
    "identity", default=None
)
_NORMALIZED = "_normalized"  # an attribute, not a field: no body can set it

_owner: contextvars.ContextVar[RequestOwner | None] = contextvars.ContextVar("owner", default=None)
# Of the requests under way, their background tasks included: these hold the context.
_owners: weakref.WeakSet[RequestOwner] = weakref.WeakSet()


def set_identity(identity: RequestIdentity) -> None:
    """Make this the identity of everything that the current request starts."""
    _identity.set(identity)
    owner = RequestOwner(identity.owner)
    _owner.set(owner)
    _owners.add(owner)


def current_identity() -> RequestIdentity | None:
    """Return who asks, or None outside of a request that the middleware has resolved."""
    return _identity.get()


def current_owner() -> RequestOwner | None:
    return _owner.get()


def normalize_once(obj: EngineRequest, options: TenantOptions) -> None:
    """Normalize a request, and write the identity of who asks on it. The second time does nothing.

    The intake does it before the tokenizer manager would: it counts what normalizing finds.
    Raises what normalizing raises, and IdentityError 400 where a list of users does not fit the
    prompts.
    """
    if getattr(obj, _NORMALIZED, False) is True:
        return
    obj.normalize_batch_and_arguments()
    stamp(obj, options)
    setattr(obj, _NORMALIZED, True)


def stamp(obj: EngineRequest, options: TenantOptions) -> None:
    """Write the identity on a normalized request: one user, or one for each prompt.

    Requests from inside the process (engine API, health check) carry their own word or
    none. Upstream's own tests give requests that hold only what they are about.
    """
    if isinstance(obj, EmbeddingReqInput):
        return  # a model that takes these does not start with the tenant cache
    if not _is_on(options):
        obj.user_id = obj.cache_scope = None
        return
    said = RequestIdentity(getattr(obj, "user_id", None), getattr(obj, "cache_scope", None))
    identity = _identity.get() or said
    users = identity.user_ids
    prompts, samples = getattr(obj, "batch_size", 1), getattr(obj, "parallel_sample_num", 1)
    if not isinstance(users, (tuple, list)):
        users = (users,) * prompts
    elif len(users) != prompts:
        raise IdentityError(
            400, "user_id", f"user_id: {len(users)} users for {prompts} prompts; give one for each"
        )
    stamps = [_stamp_of(user, identity.cache_scope, options) for user in users]
    if getattr(obj, "is_single", True):
        obj.user_id, obj.cache_scope = stamps[0]
    else:
        obj.user_id = [user for user, _ in stamps] * samples
        obj.cache_scope = [scope for _, scope in stamps] * samples
    if _identity.get() is not None:
        _own_ids(obj, identity.owner)
    _own_session(obj, users, options)


def _is_on(options: TenantOptions) -> bool:
    """Upstream's own tests give arguments that hold only what they are about."""
    return bool(getattr(options, "enable_tenant_cache", False))


def _own_ids(obj: GenerateReqInput, owner: str) -> None:
    rids = getattr(obj, "rid", None)
    if isinstance(rids, list):
        obj.rid = [internal_id(owner, rid) for rid in rids]
    elif rids is not None:
        obj.rid = internal_id(owner, rids)


def _own_session(
    obj: GenerateReqInput, users: Sequence[str | None], options: TenantOptions
) -> None:
    session = getattr(obj, "session_params", None)
    if isinstance(session, dict) and session.get("id"):
        if len(set(users)) > 1:
            raise IdentityError(400, "user_id", "user_id: a session belongs to one user")
        own = {"id": internal_session_name(session["id"], options)}
        identity = _identity.get()
        if session.get("rid") and identity is not None:
            own["rid"] = internal_id(identity.owner, session["rid"])
        obj.session_params = {**session, **own}


def _stamp_of(
    user: str | None, scope: str | None, options: TenantOptions
) -> tuple[str, str | None]:
    """Return the user and scope that the scheduler sees. Isolated anonymous work is never kept."""
    if user is not None:
        return user, scope
    if options.tenant_anonymous == "share":
        return SHARED_ANONYMOUS, scope
    return fresh_anonymous(), "none"


def internal_session_name(name: str, options: TenantOptions) -> str:
    """Return a session's name inside the server: two users' sessions of one name are two."""
    identity = _identity.get()
    if not _is_on(options) or identity is None:
        return name
    return f"{digest(identity.owner)}.{name}"


def client_session_name(name: str | None, options: TenantOptions) -> str | None:
    """Return the name that the user gave, from the one inside the server."""
    if name is None or not _is_on(options) or _identity.get() is None:
        return name
    return name.partition(".")[2]


def forget_requests(user: str) -> None:
    """Have the requests of a user that are under way in this process store nothing."""
    for owner in list(_owners):
        if owner.name == user:
            owner.erased = True
