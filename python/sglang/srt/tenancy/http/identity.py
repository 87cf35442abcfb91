"""Who is asking: evidence from key, header and body, weighed in that order.

The identity is resolved once, in the middleware. A caller that authenticates wins over what
the body claims: elsewhere the salt is a body field, so whoever knows the victim's salt
reads the victim's prefixes.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sglang.srt.tenancy.config import TenantConfig
from sglang.srt.tenancy.user_id import (
    GATEWAY,
    SHARED_ANONYMOUS,
    IdentityError,
    check_user_id,
    process_key,
)

AnonymousPolicy = Literal["isolate", "share", "reject"]
UserIds = str | tuple[str | None, ...] | None
Headers = Sequence[tuple[bytes, bytes]]
Body = Mapping[str, Any]

BODY_FIELDS = ("user_id", "safety_identifier", "user")
CACHE_SCOPES = ("private", "none")

_PROCESS_KEY_HEADER = "X-Tenant-Process-Key"


@dataclass(frozen=True, slots=True)
class RequestIdentity:
    """The resolved identity of one HTTP request.

    ``user_ids``: one user for all prompts, or one per prompt; None is anonymous.
    ``cache_scope``: "private", "none", or None where the request did not say.
    ``is_operator``: it came with the admin API key, and may ask for what users may not.
    """

    user_ids: UserIds
    cache_scope: str | None = None
    is_the_server_itself: bool = False
    is_operator: bool = False

    @property
    def owner(self) -> str:
        """Return to whom state outside the tree (sessions, stored responses) belongs to."""
        users = set(_each(self.user_ids))
        return users.pop() or SHARED_ANONYMOUS if len(users) == 1 else SHARED_ANONYMOUS


class Resolver:
    """Resolves the evidence in one request to a RequestIdentity.

    ``config`` may be exchanged at any time (reload); a request sees one of the two.
    """

    def __init__(
        self,
        config: TenantConfig,
        header: str | None,
        anonymous: AnonymousPolicy,
        admin_api_key: str | None = None,
    ):
        self.config = config
        self.header = header
        self.anonymous = anonymous
        self.admin_api_key = admin_api_key

    def check_key(self, headers: Headers) -> str | None:
        """Return whom key or header name. Raises IdentityError 400, 401 where neither lets in."""
        return None if from_the_server_itself(headers) else self._vouched(headers, {})[1]

    def resolve(self, headers: Headers, body: Body) -> RequestIdentity:
        """Raises IdentityError: 400 malformed, 401 unknown caller, 403 somebody else's name."""
        scope = _cache_scope(body)
        if from_the_server_itself(headers):
            return RequestIdentity(_claimed(body, own=True), scope, is_the_server_itself=True)
        operator = self.is_admin(headers)
        settled, user = self._vouched(headers, body)
        users = _for_each_claimed(user, body) if settled else _claimed(body)
        if self.anonymous == "reject" and None in _each(users):
            raise self._nobody(users)
        return RequestIdentity(users, scope, is_operator=operator)

    def _nobody(self, users: UserIds) -> IdentityError:
        """Make the error of a request without a user. Routers drop what they do not know."""
        field, lost = "user_id", "where a router dropped it, --tenant-header names what it keeps"
        if self.header is not None and not isinstance(users, tuple):
            field, lost = self.header, "name the user in it; a router may have dropped it"
        fault = f"{field}: missing, and this server takes no anonymous requests; {lost}"
        return IdentityError(401, field, fault)

    def is_admin(self, headers: Headers) -> bool:
        """Tell whether the request carries the operators' key."""
        key = bearer(headers)
        if key is None or not self.admin_api_key:
            return False
        return secrets.compare_digest(key.encode(), self.admin_api_key.encode())

    def _vouched(self, headers: Headers, body: Body) -> tuple[bool, str | None]:
        """Find the user whom a key or the gateway's header names.

        Whether that settles it, or the body is asked; and the user, None for an anonymous one.
        """
        config = self.config
        key = bearer(headers)
        named = self._named_in_header(headers)
        if not config.has_keys or self.is_admin(headers):
            return named is not None, named
        if key is not None:
            return True, self._holder(key, named, body)
        if named is not None and not config.has_gateway:
            return True, named
        if config.require_key:
            raise IdentityError(
                401, "Authorization", "Authorization: missing; send 'Bearer <API key>'"
            )
        for claim in _each(_claimed(body)):
            if claim is not None and config.user_has_key(claim):
                raise IdentityError(401, "user_id", f"user_id: {claim!r} needs that user's API key")
        return False, None

    def _holder(self, key: str, named: str | None, body: Body) -> str | None:
        holder = self.config.holder_of(key)
        if holder is None:
            raise IdentityError(401, "Authorization", "Authorization: this API key is not known")
        if holder == GATEWAY:
            if named is None and body.get("user_id") is not None:
                raise IdentityError(
                    403, "user_id", f"user_id: a gateway names its users in {self.header}"
                )
            return named
        # `user` and `safety_identifier` tag the caller's own end users: they claim nothing.
        claims = [("user_id", claim) for claim in _each(_user_ids(body.get("user_id")))]
        for field, claim in [(self.header or "", named), *claims]:
            if claim is not None and claim != holder:
                raise IdentityError(
                    403, field, f"{field}: {claim!r} does not belong to this API key; leave it out"
                )
        return holder

    def _named_in_header(self, headers: Headers) -> str | None:
        if self.header is None:
            return None
        values = list(_values(headers, self.header))
        if len(values) > 1:
            raise IdentityError(
                400, self.header, f"{self.header}: sent {len(values)} times; send it once"
            )
        return check_user_id(values[0], self.header) if values else None


def from_the_server_itself(headers: Headers) -> bool:
    """Tell whether a process of this server sent the request: warm-up and self-test."""
    key = next(_values(headers, _PROCESS_KEY_HEADER), "")
    return bool(key) and secrets.compare_digest(key.encode(), process_key().encode())


def headers_of_the_server_itself() -> dict[str, str]:
    return {_PROCESS_KEY_HEADER: process_key()}


def bearer(headers: Headers) -> str | None:
    """Read the key in ``Authorization: Bearer`` or, of Anthropic's clients, ``x-api-key``."""
    for value in _values(headers, "authorization"):
        scheme, _, key = value.partition(" ")
        if scheme.lower() == "bearer" and key.strip():
            return key.strip()
    return next(_values(headers, "x-api-key"), None)


def _values(headers: Headers, name: str) -> Iterator[str]:
    wanted = name.lower().encode("latin-1")
    return (value.decode("latin-1") for key, value in headers if key.lower() == wanted)


def _each(users: UserIds) -> tuple[str | None, ...]:
    return users if isinstance(users, tuple) else (users,)


def _user_ids(value: Any, *, own: bool = False) -> UserIds:
    if isinstance(value, list):
        if not value:
            raise IdentityError(400, "user_id", "user_id: an empty list; give one user")
        return tuple(None if v is None else check_user_id(v, "user_id", own=own) for v in value)
    return None if value is None else check_user_id(value, "user_id", own=own)


def _for_each_claimed(user: str | None, body: Body) -> UserIds:
    """Return the user; as often as the body lists some, so that a list of no length fits."""
    claimed = body.get("user_id")
    users = _user_ids(claimed) if isinstance(claimed, list) else None
    return (user,) * len(users) if users else user


def _claimed(body: Body, *, own: bool = False) -> UserIds:
    """Read the body's own word, first field that is set. Only ``user_id`` may be a list."""
    for field in BODY_FIELDS:
        value = body.get(field)
        if value is not None:
            if field == "user_id":
                return _user_ids(value, own=own)
            return check_user_id(value, field, own=own)
    return None


def _cache_scope(body: Body) -> str | None:
    scope = body.get("cache_scope")
    if scope is None or scope in CACHE_SCOPES:
        return scope
    raise IdentityError(
        400,
        "cache_scope",
        f"cache_scope: {str(scope)[:40]!r} is unknown; use {' or '.join(CACHE_SCOPES)}",
    )
